// SPDX-License-Identifier: Apache-2.0
// Learns a byte-level BPE vocabulary from text. The same text gives the same vocabulary, on any number of threads and
// in whatever pieces it is handed over at the same borders of documents.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/text/tokenizer.h"

namespace lockstep {

// Counts the pieces of pre-tokenisation.
class WordCounts {
 public:
  WordCounts(PieceRule rule, int threads);
  // Adds a text. Its ends are ends of pieces.
  void add(std::string_view text);

  struct Word {
    std::string text;
    int64_t count = 0;
  };
  // Sorted by their bytes.
  std::vector<Word> words() const;

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  using Counts = std::unordered_map<std::string, int64_t, Hash, std::equal_to<>>;

  PieceRule rule_;
  std::vector<Counts> counts_;  // one a thread
};

struct BpeTraining {
  int32_t vocabulary = 0;                                // with the 256 bytes and the special tokens
  std::vector<std::string> special = {"<|endoftext|>"};  // the last numbers; the first of them ends a text
  PieceRule rule = PieceRule::gpt2;
};

// The vocabulary has the bytes in the order of their symbols, what was merged in the order of merging, the special
// tokens. Merged next is always the pair of neighbours that occurs most often in the words; of equal ones the pair
// whose left token has the lowest number, then the right one. Error(usage) for a vocabulary without room; Error(data)
// where the words do not have as many pairs that occur twice.
TokenizerParts train_bpe(const std::vector<WordCounts::Word>& words, const BpeTraining& training);

}  // namespace lockstep
