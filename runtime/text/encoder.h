// SPDX-License-Identifier: Apache-2.0
// Encodes much text on several threads. The tokens are those of Tokenizer::encode(), whatever the number of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/text/tokenizer.h"

namespace lockstep {

class WordCache;

class Encoder {
 public:
  // `tokenizer` outlives the encoder. Each thread remembers the words that it has met, in 2 MiB.
  Encoder(const Tokenizer& tokenizer, int threads);
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
  ~Encoder();

  // Appends the tokens of each text to `out`, and `after_each` behind each of them. One thread calls it.
  void encode(std::span<const std::string_view> texts, SpecialTokens special, std::optional<int32_t> after_each,
              std::vector<int32_t>& out);

 private:
  struct Job;
  void plan_jobs(std::span<const std::string_view> texts, SpecialTokens special, std::optional<int32_t> after_each);
  void run_jobs();
  void run(Job& job, WordCache& cache, std::vector<int32_t>& scratch) const;

  const Tokenizer& tokenizer_;
  int threads_;
  std::vector<WordCache> caches_;  // one a thread
  std::vector<Job> jobs_;
};

}  // namespace lockstep
