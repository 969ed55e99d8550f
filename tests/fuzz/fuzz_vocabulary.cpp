// SPDX-License-Identifier: Apache-2.0
// GPT-2's two files, the vocabulary and behind it, from "#version" on, the merges: refused by an Error that names one
// of them, or a tokenizer that works.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/text/byte_symbols.h"
#include "tests/fuzz/tokenizer_checks.h"

namespace lockstep {

std::vector<std::string> built_in_seeds() {
  const TokenizerParts parts = small_tokenizer(PieceRule::gpt2);
  nlohmann::json vocabulary;
  for (size_t id = 0; id < parts.tokens.size(); ++id) vocabulary[symbols_of(parts.tokens[id])] = id;
  std::string merges = "#version: 0.2\n";
  for (const Merge& merge : parts.merges)
    merges += symbols_of(parts.tokens[size_t(merge.left)]) + " " + symbols_of(parts.tokens[size_t(merge.right)]) + "\n";
  return {vocabulary.dump() + merges, vocabulary.dump(1) + merges};
}

}  // namespace lockstep

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lockstep;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t border = std::min(text.find("#version"), text.size());
  try {
    check_tokenizer(parts_of_vocabulary(text.substr(0, border), "t.json", text.substr(border), "t.json (merges)"));
  } catch (const Error& error) {
    check_message(error.what(), "t.json");
  }
  return 0;
}
