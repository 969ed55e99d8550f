// SPDX-License-Identifier: Apache-2.0
// Tokens to train a language model on, from one file or many. This is what `lockstep train` needs of them:
//
//   TokenDataset data({"data/fineweb_train_*.bin"}, sequence_length);
//   data.check_tokenizer(tokenizer_hash, vocabulary);   // where the tokenizer is known
//   scan = data.scan(vocabulary, rank, ranks);          // before the first step; ranks add the hashes up
//   TokenLoader loader(data, {.batch = ..., .first_step = position, ...});
//   for (...) { const TokenBatch& batch = loader.next(); ... token_part(part) for each part ... step.queue(...) }
//
// Sample i of a file are its tokens [i T, i T + T]: T that the model reads, and the one that follows each as its
// target. So the last token of a sample is the first of the next; what is left at the end of a file is not trained on.
// Samples of all files are numbered in the order of the files, which is that of their names.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/data/tokens/token_file.h"

namespace lockstep {

// What looking at all tokens tells.
struct TokenScan {
  int64_t tokens = 0;
  int32_t highest = -1;
  // Over all tokens and their places. Scans of the parts of a data set add up (modulo 2^64) to the scan of the whole.
  uint64_t content_hash = 0;
};

class TokenDataset {
 public:
  // `patterns` are names of files, or globs. Error(file) for one that matches nothing; Error(usage) for a file that is
  // named twice or a sequence length below 1; Error(data) where no file has the T + 1 tokens of one sample.
  TokenDataset(const std::vector<std::string>& patterns, int64_t sequence_length);

  const std::vector<TokenFile>& files() const { return files_; }
  int64_t sequence_length() const { return sequence_length_; }
  int64_t tokens() const;
  int64_t samples() const { return first_samples_.back(); }

  // Error(data) names the first file whose header says that another tokenizer made it, or one of another vocabulary.
  void check_tokenizer(uint64_t tokenizer_hash, int64_t vocabulary) const;

  // Reads every token of part `part` of `parts`. Error(data) names file and position of a token that is not below
  // `vocabulary`, and a file that has changed since its header was written.
  TokenScan scan(int64_t vocabulary, int64_t part = 0, int64_t parts = 1) const;

  // Reads sample `sample` into `tokens` and `targets`, of T numbers each. Threads may do so at the same time.
  void read(int64_t sample, std::span<int32_t> tokens, std::span<int32_t> targets) const;

 private:
  int64_t sequence_length_;
  std::vector<TokenFile> files_;
  std::vector<int64_t> first_samples_;  // of each file, and behind the last
};

// The names that patterns stand for, sorted within each pattern. Error(file) for a pattern that matches nothing.
std::vector<std::string> expand_patterns(const std::vector<std::string>& patterns);

}  // namespace lockstep
