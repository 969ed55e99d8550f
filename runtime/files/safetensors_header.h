// SPDX-License-Identifier: Apache-2.0
// The JSON header of a safetensors file: it is parsed as hostile input, and equal content is written as equal bytes.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/device/dtype.h"

namespace lockstep {

// Limits on what is read; each is checked before memory is spent on it.
inline constexpr int64_t kMaxHeaderBytes = 100'000'000;
inline constexpr size_t kMaxTensorsInFile = 1'000'000;
inline constexpr size_t kMaxNameBytes = 1024;
inline constexpr size_t kMaxStoredRank = 8;

// One tensor of a file. `{}` is the shape of a scalar.
struct StoredTensor {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  int64_t begin = 0;  // where its bytes begin, counted from the end of the header
  int64_t bytes = 0;
};

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;  // sorted by name
  std::map<std::string, std::string> metadata;
};

// `path` is for messages; `data_bytes` is what the file holds behind the header, which the tensors must fill without a
// hole or an overlap. Throws Error(data).
SafetensorsHeader parse_safetensors_header(const std::string& path, std::string_view text, int64_t data_bytes);

// The header as text, padded with spaces to a multiple of 8 bytes. `tensors` come in the order of their bytes.
std::string format_safetensors_header(std::span<const StoredTensor> tensors,
                                      const std::map<std::string, std::string>& metadata);

std::string_view safetensors_name(DType dtype);  // "F32"

// Throws Error(data) when the size does not fit an int64: a file's dimensions may multiply to anything.
int64_t stored_bytes(const std::string& path, const StoredTensor& tensor);

}  // namespace lockstep
