// SPDX-License-Identifier: Apache-2.0
// The index of Megatron, beside tokens that are always the same.
#include "tests/fuzz/token_data_checks.h"

namespace lockstep {
namespace {

std::string seed(uint8_t type, std::initializer_list<int32_t> lengths) {
  std::string bytes("MMIDIDX\0\0", 9);
  append(bytes, uint64_t(1));
  append(bytes, type);
  append(bytes, uint64_t(lengths.size()));
  append(bytes, uint64_t(2));
  for (const int32_t length : lengths) append(bytes, length);
  int64_t place = 0;
  for (const int32_t length : lengths) {
    append(bytes, place);
    place += length * (type == 4 ? 4 : 2);
  }
  append(bytes, int64_t(0));
  append(bytes, int64_t(lengths.size()));
  return bytes;
}

}  // namespace

std::vector<std::string> built_in_seeds() { return {seed(8, {3, 0, 5}), seed(4, {2, 2}), seed(8, {8})}; }

}  // namespace lockstep

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lockstep;
  static const std::string tokens = fuzz_path(".bin"), index = fuzz_path(".idx");
  std::string bytes;
  for (uint16_t i = 0; i < 8; ++i) append(bytes, i);
  put(tokens, bytes);
  put(index, {reinterpret_cast<const char*>(data), size});
  check_tokens(tokens, tokens.substr(0, tokens.size() - 4));
  ::unlink(tokens.c_str());
  ::unlink(index.c_str());
  return 0;
}
