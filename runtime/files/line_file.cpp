// SPDX-License-Identifier: Apache-2.0
#include "runtime/files/line_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "kernels/device/check.h"

namespace lockstep {

LineFile::LineFile(std::string path) : path_(std::move(path)) {
  file_ = FileDescriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666));
  if (!file_.is_open()) fail_file("write", path_, errno);
}

void LineFile::write_line(std::string_view line) {
  check(line.find('\n') == std::string_view::npos, ErrorCode::internal,
        [&] { return str("expected one line for '", path_, "', got several: ", line); });
  buffer_.assign(line);
  buffer_.push_back('\n');
  try {
    write_all(file_, path_, buffer_.data(), int64_t(buffer_.size()));
  } catch (...) {
    // This fails where nothing can be cut (a pipe, a device), and then there is nothing to do.
    [[maybe_unused]] const int cut = ::ftruncate(file_.number(), whole_bytes_);
    throw;
  }
  whole_bytes_ += int64_t(buffer_.size());
}

void LineFile::close() {
  if (const int error = file_.close()) fail_file("close", path_, error);
}

}  // namespace lockstep
