// SPDX-License-Identifier: Apache-2.0
// Reads a safetensors file and writes its content to another: `safetensors_copy FROM TO`.
#include <iostream>

#include "runtime/files/safetensors.h"

int main(int argc, char** argv) try {
  using namespace lockstep;
  check(argc == 3, ErrorCode::usage, "expected: safetensors_copy FROM TO");
  const SafetensorsFile file(argv[1]);
  std::vector<std::vector<std::byte>> contents;
  std::vector<NamedTensor> tensors;
  for (const StoredTensor& stored : file.tensors()) {
    contents.emplace_back(size_t(stored.bytes));
    file.read(stored.name, contents.back());
    tensors.push_back({stored.name, stored.dtype, stored.shape, contents.back().data()});
  }
  write_safetensors(argv[2], tensors, file.metadata());
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
