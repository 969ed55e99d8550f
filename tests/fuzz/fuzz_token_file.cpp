// SPDX-License-Identifier: Apache-2.0
// Files of tokens of llm.c and nanoGPT.
#include "tests/fuzz/token_data_checks.h"

namespace lockstep {
namespace {

std::string seed(std::initializer_list<int32_t> header, int count, bool wide) {
  std::string bytes;
  for (const int32_t word : header) append(bytes, word);
  if (header.size() > 0) bytes.resize(size_t(TokenHeader::kWords) * sizeof(int32_t));
  for (int i = 0; i < count; ++i) {
    if (wide)
      append(bytes, int32_t(i));
    else
      append(bytes, uint16_t(i));
  }
  return bytes;
}

}  // namespace

std::vector<std::string> built_in_seeds() {
  return {seed({TokenHeader::kMagic16, 1, 20}, 20, false), seed({TokenHeader::kMagic32, 7, 9}, 9, true),
          seed({TokenHeader::kMagic16, 1, 20, TokenHeader::kOurs, 1000, 1, 2, 3, 4}, 20, false), seed({}, 900, false)};
}

}  // namespace lockstep

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lockstep;
  static const std::string path = fuzz_path(".bin");
  put(path, {reinterpret_cast<const char*>(data), size});
  check_tokens(path, path);
  ::unlink(path.c_str());
  return 0;
}
