// SPDX-License-Identifier: Apache-2.0
// What must hold of any tokenizer that was read.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include "kernels/device/check.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/tokenizer_files.h"
#include "tests/fuzz/fuzz_target.h"

namespace lockstep {

// Text comes back as it was, and the tokenizer from the file that it is written to.
inline void check_tokenizer(TokenizerParts parts) {
  const Tokenizer tokenizer(std::move(parts), "t.json");
  const Tokenizer again(parts_of_tokenizer_json(tokenizer_json(tokenizer.parts()), "again"), "again");
  if (again.hash() != tokenizer.hash()) throw std::logic_error("a tokenizer does not come back from its file");
  constexpr std::string_view kText = "It's the rank'S  128 runs:\r\n\n \t \xff\xc3 é日👍 <|endoftext|> aaaaaaaaaaaaaaaa";
  for (const SpecialTokens special : {SpecialTokens::as_text, SpecialTokens::recognised}) {
    try {
      if (tokenizer.decode(tokenizer.encode(kText, special)) != kText)
        throw std::logic_error("text does not come back");
    } catch (const Error& error) {  // a vocabulary may lack bytes
      check_message(error.what(), "t.json");
    }
  }
}

// A small tokenizer.json, of 256 bytes and a few merges.
inline TokenizerParts small_tokenizer(PieceRule rule) {
  TokenizerParts parts;
  parts.rule = rule;
  for (int byte = 0; byte < 256; ++byte) parts.tokens.emplace_back(1, char(byte));
  const auto merge = [&](int32_t left, int32_t right) {
    parts.merges.push_back({left, right, int32_t(parts.tokens.size())});
    parts.tokens.push_back(parts.tokens[size_t(left)] + parts.tokens[size_t(right)]);
  };
  merge('a', 'a');
  merge('t', 'h');
  merge(257, 'e');
  merge(256, 256);
  parts.added = {{"<|endoftext|>", int32_t(parts.tokens.size()), true}};
  parts.tokens.emplace_back("<|endoftext|>");
  parts.end_of_text = "<|endoftext|>";
  return parts;
}

}  // namespace lockstep
