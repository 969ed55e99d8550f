// SPDX-License-Identifier: Apache-2.0
// A text file that grows by whole lines and can be read while it grows: ledger and metrics.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/files/file_descriptor.h"

namespace lockstep {

// The lines that a file begins with: their bytes, and a rolling hash of them, line by line.
struct LinePosition {
  int64_t bytes = 0;
  uint64_t hash = 0;
  friend bool operator==(const LinePosition&, const LinePosition&) = default;
};

// Throws Error(data) unless `path` is a file that begins with the lines up to `position`. Error(file).
void check_lines(const std::string& path, const LinePosition& position);

// Opening empties the file, so open it only when the run is sure to start. Terminals and pipes also work: a pipe whose
// reader does not come, or stops reading, is an Error(file) after `patience`. A symbolic link to a file is refused, so
// that nothing elsewhere is emptied; one to a pipe or terminal, such as /dev/stdout, is followed.
class LineFile {
 public:
  explicit LineFile(std::string path, std::chrono::milliseconds patience = std::chrono::seconds(10));
  // Goes on behind `position`, for which check_lines() has passed: what follows it is cut off.
  LineFile(std::string path, std::chrono::milliseconds patience, const LinePosition& position);

  // Adds `line` and a newline, and hands both to the system before it returns. If that fails, the file ends with the
  // last whole line.
  void write_line(std::string_view line);
  // Where the next line goes; none for pipes and devices, which cannot be gone on with.
  std::optional<LinePosition> position() const;
  // Has the lines so far on disk. Another thread may write lines meanwhile.
  void sync() const;
  // Reports what a file system holds back until the end (quota, network); the destructor closes silently.
  void close();

 private:
  void open(int what_is_there);  // O_TRUNC, or 0
  void write_to_pipe();

  std::string path_;
  std::chrono::milliseconds patience_;
  FileDescriptor file_;
  bool is_pipe_ = false, is_regular_ = false;
  std::string buffer_;
  LinePosition whole_;  // of the last whole line
};

}  // namespace lockstep
