// SPDX-License-Identifier: Apache-2.0
#include "runtime/text/encoder.h"

#include <algorithm>
#include <atomic>
#include <exception>

#include "kernels/parallel.h"
#include "runtime/text/word_cache.h"

namespace lockstep {

// Text that is encoded by itself, or tokens that are known without.
struct Encoder::Job {
  std::string_view text = {};
  int32_t token = -1;                // takes the place of a text
  std::vector<int32_t> tokens = {};  // of the text
  size_t count() const { return token >= 0 ? 1 : tokens.size(); }
};

namespace {

constexpr size_t kJobBytes = 1 << 16;

}  // namespace

Encoder::Encoder(const Tokenizer& tokenizer, int threads)
    : tokenizer_(tokenizer), threads_(std::max(threads, 1)), caches_(size_t(threads_)) {}

Encoder::~Encoder() = default;

void Encoder::encode(std::span<const std::string_view> texts, SpecialTokens special, std::optional<int32_t> after_each,
                     std::vector<int32_t>& out) {
  plan_jobs(texts, special, after_each);
  run_jobs();
  size_t count = out.size();
  for (const Job& job : jobs_) count += job.count();
  out.reserve(count);
  for (const Job& job : jobs_) {
    if (job.token >= 0)
      out.push_back(job.token);
    else
      out.insert(out.end(), job.tokens.begin(), job.tokens.end());
  }
}

void Encoder::plan_jobs(std::span<const std::string_view> texts, SpecialTokens special,
                        std::optional<int32_t> after_each) {
  jobs_.clear();
  for (const std::string_view text : texts) {
    for (Tokenizer::Stretch stretch : tokenizer_.stretches(text, special)) {
      if (stretch.added >= 0) {
        jobs_.push_back({.token = stretch.added});
        continue;
      }
      while (!stretch.text.empty()) {
        const size_t cut = safe_cut(stretch.text, kJobBytes);
        jobs_.push_back({.text = stretch.text.substr(0, cut)});
        stretch.text.remove_prefix(cut);
      }
    }
    if (after_each) jobs_.push_back({.token = *after_each});
  }
}

void Encoder::run_jobs() {
  std::atomic<size_t> next = 0;
  std::vector<std::exception_ptr> errors(caches_.size());
  cpu::parallel_parts(threads_, std::min<int64_t>(threads_, int64_t(jobs_.size())), [&](int64_t part) {
    try {
      std::vector<int32_t> scratch;
      for (size_t i = next++; i < jobs_.size(); i = next++)
        if (jobs_[i].token < 0) run(jobs_[i], caches_[size_t(part)], scratch);
    } catch (...) {
      errors[size_t(part)] = std::current_exception();
      next = jobs_.size();
    }
  });
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

void Encoder::run(Job& job, WordCache& cache, std::vector<int32_t>& scratch) const {
  std::string_view text = job.text;
  if (scratch.size() < text.size() + WordCache::kMostTokens) scratch.resize(text.size() + WordCache::kMostTokens);
  int32_t* out = scratch.data();
  const PieceRule rule = tokenizer_.parts().rule;
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, first_piece(rule, text));
    if (piece.size() > WordCache::kLongestWord) {
      out += tokenizer_.encode_piece(piece, out);
    } else {
      const WordCache::Key key = WordCache::key_of(piece, text.size());
      WordCache::Entry& entry = cache.place_of(key);
      if (entry.key == key) {
        // All places are copied, as many or few: that takes no loop, and what is too many is written over.
        std::memcpy(out, entry.tokens.data(), sizeof entry.tokens);
        out += entry.count;
      } else {
        const size_t count = tokenizer_.encode_piece(piece, out);
        WordCache::fill(entry, key, {out, count});
        out += count;
      }
    }
    text.remove_prefix(piece.size());
  }
  job.tokens.assign(scratch.data(), out);
}

}  // namespace lockstep
