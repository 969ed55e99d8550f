// SPDX-License-Identifier: Apache-2.0
// The tokenizer.json of Hugging Face: any text is refused by an Error that names the file, or is a tokenizer that
// works.
#include "tests/fuzz/tokenizer_checks.h"

namespace lockstep {

std::vector<std::string> built_in_seeds() {
  std::vector<std::string> seeds;
  for (const PieceRule rule : kPieceRules) seeds.push_back(tokenizer_json(small_tokenizer(rule)));
  return seeds;
}

}  // namespace lockstep

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lockstep;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    check_tokenizer(parts_of_tokenizer_json(text, "t.json"));
  } catch (const Error& error) {
    check_message(error.what(), "t.json");
  }
  try {
    (void)end_of_text_of_config(text, "c.json");
  } catch (const Error& error) {
    check_message(error.what(), "c.json");
  }
  return 0;
}
