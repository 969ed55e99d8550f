// SPDX-License-Identifier: Apache-2.0
// A text file that grows by whole lines and can be read while it grows: ledger and metrics.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/files/file_descriptor.h"

namespace lockstep {

// Opening empties the file, so open it only when the run is sure to start. Terminals and pipes also work: a pipe whose
// reader does not come, or stops reading, is an Error(file) after `patience`. A symbolic link to a file is refused, so
// that nothing elsewhere is emptied; one to a pipe or terminal, such as /dev/stdout, is followed.
class LineFile {
 public:
  explicit LineFile(std::string path, std::chrono::milliseconds patience = std::chrono::seconds(10));

  // Adds `line` and a newline, and hands both to the system before it returns. If that fails, the file ends with the
  // last whole line.
  void write_line(std::string_view line);
  // Reports what a file system holds back until the end (quota, network); the destructor closes silently.
  void close();

 private:
  void write_to_pipe();

  std::string path_;
  std::chrono::milliseconds patience_;
  FileDescriptor file_;
  bool is_pipe_ = false;
  std::string buffer_;
  int64_t whole_bytes_ = 0;
};

}  // namespace lockstep
