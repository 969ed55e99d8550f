// SPDX-License-Identifier: Apache-2.0
// Files that are there whole or not at all: written beside their place, made durable, then renamed into it. What a
// process that was killed has left beside the place is removed by the next one that writes there.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/files/file_descriptor.h"

namespace lockstep {

// Until commit() the path keeps its old content, or stays absent. Without a commit() nothing is left behind.
class AtomicFile {
 public:
  // Refuses a path that holds anything but a regular file: a rename would replace a device or a link with a file. A
  // file that is replaced hands its owner and permissions on.
  explicit AtomicFile(std::string path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(const void* source, int64_t bytes);
  // Writes over bytes that were written before, such as a header that could not be known then.
  void overwrite(const void* source, int64_t bytes, int64_t offset);
  // The content is on disk before the name is, and the name before this returns.
  void commit();

 private:
  std::string path_;
  std::string partial_path_;  // empty once committed
  FileDescriptor file_;       // locked, which says that somebody writes it
};

// Throws what writing `path` would throw when a folder or a permission is missing. For use before hours of training.
void check_can_write(const std::string& path);

}  // namespace lockstep
