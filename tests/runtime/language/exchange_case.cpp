// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/language/exchange_case.h"

#include <algorithm>
#include <cmath>

#include "runtime/language/text_generator.h"
#include "tests/runtime/models/greatest_difference.h"

namespace lockstep {
namespace {

Tensor tokens_of(const int32_t* tokens, int64_t samples, int64_t length) {
  return Tensor::borrow(ConstView{tokens, DType::i32, DeviceKind::cpu, Shape{samples, length}});
}

void append(std::vector<float>& all, const ConstView& view, int64_t first) {
  all.insert(all.end(), data<float>(view) + first, data<float>(view) + view.size());
}

}  // namespace

ExchangeCase::ExchangeCase(const std::string& model_path, const std::string& expected_path)
    : model_(load_language_model(model_path, pool_)), expected_(expected_path) {
  const StoredTensor* tokens = expected_.find("tokens");
  check(tokens != nullptr, ErrorCode::data, [&] { return str(expected_path, " has no tokens"); });
  samples_ = tokens->shape[0], length_ = tokens->shape[1];
}

std::vector<int32_t> ExchangeCase::integers(const char* name) const {
  std::vector<int32_t> values(size_t(expected_.find(name)->bytes) / sizeof(int32_t));
  expected_.read(name, std::as_writable_bytes(std::span(values)));
  return values;
}

std::vector<float> ExchangeCase::whole() {
  Context context(stream_, pool_, nullptr);
  context.set_values(model_.values);
  const std::vector<int32_t> tokens = integers("tokens");
  std::vector<float> all;
  append(all, model_.model.logits(context, tokens_of(tokens.data(), samples_, length_)), 0);
  return all;
}

// Logits of the last position of every piece.
std::vector<float> ExchangeCase::by_pieces(bool single) {
  Context context(stream_, pool_, nullptr);
  context.set_values(model_.values);
  const std::vector<int32_t> tokens = integers("tokens");
  std::vector<float> all;
  KeyValueCache cache(model_.settings.block_size);
  for (int64_t sample = 0; sample < samples_; ++sample) {
    cache.clear();
    int64_t piece = single ? 1 : 3;
    for (int64_t at = 0; at < length_; at += piece, piece = single ? 1 : piece % 3 + 1) {
      piece = std::min(piece, length_ - at);
      append(all, model_.model.next_logits(context, tokens_of(tokens.data() + sample * length_ + at, 1, piece), cache),
             0);
    }
  }
  return all;
}

std::map<std::string, double> ExchangeCase::differences() {
  std::vector<float> expected(size_t(expected_.find("logits")->bytes) / sizeof(float));
  expected_.read("logits", std::as_writable_bytes(std::span(expected)));
  const std::vector<float> logits = whole();
  const auto row = size_t(model_.settings.vocab_size);
  std::vector<float> ends;  // of the pieces: 3, 1, 2, 3, 1, ... tokens
  for (int64_t sample = 0; sample < samples_; ++sample) {
    int64_t piece = 3;
    for (int64_t at = 0; at < length_; at += piece, piece = piece % 3 + 1) {
      piece = std::min(piece, length_ - at);
      const auto from = logits.begin() + (sample * length_ + at + piece - 1) * int64_t(row);
      ends.insert(ends.end(), from, from + int64_t(row));
    }
  }
  return {{"logits", greatest_difference(logits, expected)},
          {"cached", greatest_difference(by_pieces(true), logits)},
          {"in pieces", greatest_difference(by_pieces(false), ends)}};
}

std::vector<int32_t> ExchangeCase::greedy() {
  TextGenerator generator(model_.model, model_.settings, model_.values, stream_, pool_);
  const std::vector<int32_t> tokens = integers("tokens");
  generator.begin(std::span(tokens).first(size_t(length_)));
  std::vector<int32_t> chosen;
  const size_t wanted = expected_greedy().size();
  while (chosen.size() < wanted) {
    chosen.push_back(choose_token(generator.logits(), {.temperature = 0}, 0));
    generator.add(chosen.back());
  }
  return chosen;
}

}  // namespace lockstep
