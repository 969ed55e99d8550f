// SPDX-License-Identifier: Apache-2.0
// The content of a file from front to back, decompressed where it is gzipped.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/files/file_descriptor.h"

namespace lockstep {

class ByteStream {
 public:
  // By the name of the file: .gz is gzipped.
  static std::unique_ptr<ByteStream> open(const std::string& path);
  virtual ~ByteStream() = default;

  // Reads up to `bytes` bytes; fewer only at the end, where it sees to it that the file is as it was.
  virtual int64_t read(char* destination, int64_t bytes) = 0;
  // Passes over `bytes` bytes.
  virtual void skip(int64_t bytes) = 0;

 protected:
  explicit ByteStream(const std::string& path) : path_(path), file_(open_to_read(path, Links::follow)) {}
  std::string path_;
  ReadableFile file_;
  int64_t offset_ = 0;  // in the file
};

}  // namespace lockstep
