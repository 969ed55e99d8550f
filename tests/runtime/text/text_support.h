// SPDX-License-Identifier: Apache-2.0
// Texts and tokenizers for tests.
#pragma once

#include <random>
#include <string>

#include "runtime/text/bpe_trainer.h"
#include "runtime/text/tokenizer.h"

namespace lockstep {

// Words, spaces, digits, marks, characters of several bytes and bytes that are no UTF-8; always the same.
inline std::string mixed_text(uint64_t seed, size_t pieces) {
  static constexpr std::string_view kPieces[] = {
      "the",           " rank", "'s",     "'LL", " ", "  ",   "\n",   "\r\n",     "\t",     "12",     "345", " 6", "!?",
      "...",           "é",     "москва", "日",  "👍", "\xff", "\xc3", "\xe2\x80", "\u00a0", "\u3000", "ſ",   "Ⅷ",  "'",
      "<|endoftext|>", "A"};
  std::mt19937_64 random(seed);
  std::string text;
  for (size_t i = 0; i < pieces; ++i) text += kPieces[random() % std::size(kPieces)];
  return text;
}

inline Tokenizer trained_on(const std::string& text, int32_t vocabulary, PieceRule rule = PieceRule::gpt2) {
  WordCounts counts(rule, 1);
  counts.add(text);
  return Tokenizer(train_bpe(counts.words(), {.vocabulary = vocabulary, .rule = rule}));
}

}  // namespace lockstep
