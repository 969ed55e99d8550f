// SPDX-License-Identifier: Apache-2.0
// Safetensors files put together by hand, right or wrong, and what reading them says.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "runtime/files/safetensors.h"
#include "tests/support/files.h"

namespace lockstep {

inline std::string file_of(const std::string& header, const std::string& data, uint64_t header_bytes) {
  std::string file(8, '\0');
  std::memcpy(file.data(), &header_bytes, 8);
  return file + header + data;
}

inline std::string file_of(const std::string& header, const std::string& data = "") {
  return file_of(header, data, header.size());
}

// Reads everything a file says it holds; the Error it is refused with, or nothing.
inline std::string read_everything(const std::string& path) {
  return error_of([&] {
    const SafetensorsFile file(path);
    for (const StoredTensor& tensor : file.tensors()) {
      std::vector<std::byte> bytes(size_t(tensor.bytes));
      file.read(tensor.name, bytes);
    }
  });
}

inline std::string refusal(const std::string& bytes) {
  const TemporaryFolder folder;
  write_file(folder / "f", bytes);
  return read_everything(folder / "f");
}

}  // namespace lockstep
