// SPDX-License-Identifier: Apache-2.0
// Named tensors in one file, in the safetensors format, which `--save` writes and Python's package reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "kernels/device/dtype.h"
#include "kernels/device/view.h"
#include "runtime/files/file_descriptor.h"
#include "runtime/files/safetensors_header.h"

namespace lockstep {

// A tensor to be written: host memory of `dtype`, row-major.
struct NamedTensor {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  const void* data = nullptr;
};

// What a file of tensors consists of, in order: `head` is the length of the header and the header, and `data` are the
// bytes of the tensors, borrowed from them.
struct SafetensorsLayout {
  std::string head;
  std::vector<std::span<const std::byte>> data;
  int64_t bytes() const;
};

// Throws Error(data) for what SafetensorsFile would refuse to read; `path` is for messages.
SafetensorsLayout lay_out_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                                      const std::map<std::string, std::string>& metadata);

// Writes the file whole or not at all. Equal content gives equal bytes, whatever the order of `tensors`: they are
// stored by falling size of their elements, then by name, each at its natural alignment.
void write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {});

// A file open for reading, with a validated header. It reads by position and maps nothing, so a file that shrinks
// meanwhile is an Error and not a crash.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(std::string path);

  const std::string& path() const { return path_; }
  int64_t bytes() const { return bytes_; }                                      // of the whole file
  const std::vector<StoredTensor>& tensors() const { return header_.tensors; }  // sorted by name
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  const StoredTensor* find(const std::string& name) const;  // null when the file has no such tensor

  // The destination must have exactly the tensor's size.
  void read(const std::string& name, std::span<std::byte> destination) const;
  // Also demands equal dtype and shape, and names both when they differ. `destination` is host memory.
  void read(const std::string& name, const View& destination) const;

 private:
  const StoredTensor& at(const std::string& name) const;
  std::string path_;
  FileDescriptor file_;
  int64_t bytes_ = 0;
  int64_t data_offset_ = 0;  // where the header ends
  SafetensorsHeader header_;
};

}  // namespace lockstep
