// SPDX-License-Identifier: Apache-2.0
// Cuts text into the pieces within which a tokenizer merges bytes: about a word each, with the space before it.
#pragma once

#include <cstddef>
#include <string_view>

namespace lockstep {

// What a piece is, as a regular expression that is matched again and again. The expressions look ahead, which RE2
// cannot, so they are walked by hand over classes of characters.
enum class PieceRule {
  // '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  gpt2,
  // The same between numbers, each of whose digits is a piece: SmolLM and others.
  gpt2_digits,
  // (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
  llama3,
};
inline constexpr PieceRule kPieceRules[] = {PieceRule::gpt2, PieceRule::gpt2_digits, PieceRule::llama3};
std::string_view to_string(PieceRule rule);

// The number of bytes of the first piece of `text`, which is not empty. The pieces of a text are all of it.
size_t first_piece(PieceRule rule, std::string_view text);

// The first place at or after `from` where text may be cut, and no piece of the whole or of the halves is another;
// text.size() where there is none. Such is a space behind a visible ASCII character: every rule begins a piece there,
// and none looks across it.
size_t safe_cut(std::string_view text, size_t from);

}  // namespace lockstep
