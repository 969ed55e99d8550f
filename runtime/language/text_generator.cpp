// SPDX-License-Identifier: Apache-2.0
#include "runtime/language/text_generator.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/philox.h"

namespace lockstep {
namespace {

struct Candidate {
  int32_t token;
  double weight;  // proportional to its probability
};

bool is_likelier(std::span<const float> logits, int32_t a, int32_t b) {
  const float x = logits[size_t(a)], y = logits[size_t(b)];
  return x != y ? x > y : a < b;
}

// Falling by likelihood, and only as many as top_k asks for.
std::vector<Candidate> candidates_of(std::span<const float> logits, const Sampling& sampling) {
  std::vector<int32_t> order;
  for (size_t token = 0; token < logits.size(); ++token) {
    check(!std::isnan(logits[token]) && logits[token] < std::numeric_limits<float>::infinity(), ErrorCode::numbers,
          [&] {
            return str("the logit of token ", token, " is ", logits[token], ", expected a number; check the weights");
          });
    if (std::isfinite(logits[token])) order.push_back(int32_t(token));
  }
  check(!order.empty(), ErrorCode::numbers, "expected a token that may be taken, got none");
  const size_t most = sampling.temperature == 0 ? 1 : sampling.top_k > 0 ? size_t(sampling.top_k) : order.size();
  const size_t kept = std::min(most, order.size());
  std::ranges::partial_sort(order, order.begin() + int64_t(kept),
                            [&](int32_t a, int32_t b) { return is_likelier(logits, a, b); });
  std::vector<Candidate> candidates;
  const double greatest = logits[size_t(order[0])];
  for (size_t i = 0; i < kept; ++i) {
    const double below = logits[size_t(order[i])] - greatest;
    candidates.push_back({order[i], i == 0 ? 1 : std::exp(below / sampling.temperature)});
  }
  return candidates;
}

double sum_of(std::span<const Candidate> candidates) {
  double sum = 0;
  for (const Candidate& candidate : candidates) sum += candidate.weight;
  return sum;
}

// The likeliest that reach top_p together; at least one.
void keep_likeliest(std::vector<Candidate>& candidates, double top_p) {
  const double wanted = top_p * sum_of(candidates);
  double sum = 0;
  size_t kept = 0;
  while (kept < candidates.size() && (kept == 0 || sum < wanted)) sum += candidates[kept++].weight;
  candidates.resize(kept);
}

}  // namespace

void check_sampling(const Sampling& sampling) {
  const double hottest = 1e6;
  check(sampling.temperature >= 0 && sampling.temperature <= hottest, ErrorCode::usage, [&] {
    return str("--temperature: expected 0 (the most likely token) to ", hottest, ", got ", sampling.temperature);
  });
  check(sampling.top_k >= 0, ErrorCode::usage,
        [&] { return str("--top-k: expected a number of tokens, or 0 for all, got ", sampling.top_k); });
  check(sampling.top_p > 0 && sampling.top_p <= 1, ErrorCode::usage,
        [&] { return str("--top-p: expected a probability above 0 and up to 1, got ", sampling.top_p); });
}

int32_t choose_token(std::span<const float> logits, const Sampling& sampling, uint64_t draw) {
  check_sampling(sampling);
  std::vector<Candidate> candidates = candidates_of(logits, sampling);
  if (sampling.top_p < 1) keep_likeliest(candidates, sampling.top_p);
  if (candidates.size() == 1) return candidates[0].token;
  const Philox4 random = philox4x32(sampling.seed, draw, 0);
  const uint64_t bits = (uint64_t(random.v[0]) << 32 | random.v[1]) >> 11;
  double left = double(bits) * 0x1p-53 * sum_of(candidates);
  for (const Candidate& candidate : candidates)
    if ((left -= candidate.weight) < 0) return candidate.token;
  return candidates.back().token;
}

TextGenerator::TextGenerator(const Model& model, const TransformerSettings& settings, std::span<const Tensor> values,
                             Stream& stream, Pool& pool)
    : model_(model), settings_(complete(settings)), context_(stream, pool, nullptr), cache_(settings_.block_size) {
  check(stream.device().kind == DeviceKind::cpu, ErrorCode::usage, "text is generated on the CPU; use a stream of it");
  context_.set_values(values);
}

void TextGenerator::read(std::span<const int32_t> tokens) {
  const ConstView view{tokens.data(), DType::i32, DeviceKind::cpu, Shape{1, int64_t(tokens.size())}};
  const Tensor logits = model_.next_logits(context_, Tensor::borrow(view), cache_);
  const float* values = data<float>(ConstView(logits));
  logits_.assign(values, values + logits.size());
}

void TextGenerator::check_prompt(std::span<const int32_t> prompt) const {
  check(!prompt.empty(), ErrorCode::usage, "a text to go on with has no tokens, expected at least one");
  check(int64_t(prompt.size()) <= settings_.block_size, ErrorCode::usage, [&] {
    return str("the prompt has ", prompt.size(), " tokens, and the context of the model is ", settings_.block_size,
               "; use a shorter prompt");
  });
  for (const int32_t token : prompt)
    check(token >= 0 && token < settings_.vocab_size, ErrorCode::usage, [&] {
      return str("the prompt has token ", token, ", expected tokens below the vocabulary of ", settings_.vocab_size);
    });
}

void TextGenerator::begin(std::span<const int32_t> prompt) {
  check_prompt(prompt);
  cache_.clear();
  text_.assign(prompt.begin(), prompt.end());
  read(text_);
}

void TextGenerator::add(int32_t token) {
  check(!text_.empty() && token >= 0 && token < settings_.vocab_size, ErrorCode::usage, [&] {
    return str("expected a text that has begun and a token below ", settings_.vocab_size, ", got ", token);
  });
  text_.push_back(token);
  if (int64_t(text_.size()) <= settings_.block_size) return read({&token, 1});
  text_.erase(text_.begin(), text_.end() - (settings_.block_size + 1) / 2);
  cache_.clear();
  read(text_);
}

}  // namespace lockstep
