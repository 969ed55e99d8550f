// SPDX-License-Identifier: Apache-2.0
#include "runtime/files/line_file.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <thread>
#include <utility>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

using Clock = std::chrono::steady_clock;

// Nothing but a pipe or device may be reached through a link.
bool may_follow(const std::string& path) {
  struct stat status;
  return ::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode);
}

// A pipe without a reader cannot be opened without waiting; its reader may be about to start.
FileDescriptor open_to_append(const std::string& path, std::chrono::milliseconds patience, int what_is_there) {
  const int flags = O_WRONLY | O_CREAT | what_is_there | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY |
                    (may_follow(path) ? 0 : O_NOFOLLOW);
  const Clock::time_point end = Clock::now() + patience;
  for (;;) {
    FileDescriptor file(::open(path.c_str(), flags, 0666));
    if (file.is_open()) return file;
    if (errno != ENXIO || Clock::now() >= end) fail_file("write", path, errno);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

uint64_t hash_of_line(std::string_view line, uint64_t before) {
  return XXH3_64bits_withSeed(line.data(), line.size(), before);
}

std::string hex(uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

// While it lives, writing to a pipe whose reader has gone is an error of this thread and not the end of the process.
class WithoutPipeSignal {
 public:
  WithoutPipeSignal() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~WithoutPipeSignal() {
    const int error = errno;
    const timespec none{};
    if (sigismember(&before_, SIGPIPE) == 0) sigtimedwait(&pipe_, nullptr, &none);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    errno = error;
  }
  WithoutPipeSignal(const WithoutPipeSignal&) = delete;
  WithoutPipeSignal& operator=(const WithoutPipeSignal&) = delete;

 private:
  sigset_t pipe_{}, before_{};
};

}  // namespace

void check_lines(const std::string& path, const LinePosition& position) {
  const ReadableFile file = open_to_read(path, Links::refuse);
  constexpr int64_t kPiece = 1 << 20;
  uint64_t hash = 0;
  std::string text;
  int64_t read = 0;
  while (read < position.bytes) {
    const size_t held = text.size();
    const int64_t wanted = std::min(kPiece, position.bytes - read);
    text.resize(held + size_t(wanted));
    const int64_t got = read_at(file.descriptor, path, text.data() + held, wanted, read);
    text.resize(held + size_t(got));
    read += got;
    size_t begin = 0;
    for (size_t end = text.find('\n', held); end != text.npos; end = text.find('\n', begin)) {
      hash = hash_of_line(std::string_view(text).substr(begin, end + 1 - begin), hash);
      begin = end + 1;
    }
    text.erase(0, begin);
    if (got < wanted) break;
  }
  check(read == position.bytes && text.empty() && hash == position.hash, ErrorCode::data, [&] {
    return str("'", path, "' does not begin with the ", position.bytes,
               " bytes of lines that were written to it before, expected their hash ", hex(position.hash), ", got ",
               read < position.bytes ? str("a file of ", read, " bytes") : hex(hash));
  });
}

LineFile::LineFile(std::string path, std::chrono::milliseconds patience) : path_(std::move(path)), patience_(patience) {
  open(O_TRUNC);
}

LineFile::LineFile(std::string path, std::chrono::milliseconds patience, const LinePosition& position)
    : path_(std::move(path)), patience_(patience), whole_(position) {
  open(0);
  if (is_regular_ && ::ftruncate(file_.number(), off_t(position.bytes)) != 0) fail_file("write", path_, errno);
}

void LineFile::open(int what_is_there) {
  file_ = open_to_append(path_, patience_, what_is_there);
  struct stat status;
  if (::fstat(file_.number(), &status) != 0) fail_file("look at", path_, errno);
  is_pipe_ = S_ISFIFO(status.st_mode);
  is_regular_ = S_ISREG(status.st_mode);
  // Devices are waited for; a pipe is watched.
  if (!is_pipe_) ::fcntl(file_.number(), F_SETFL, O_APPEND);
}

void LineFile::write_line(std::string_view line) {
  check(line.find('\n') == std::string_view::npos, ErrorCode::internal,
        [&] { return str("expected one line for '", path_, "', got several: ", line); });
  buffer_.assign(line);
  buffer_.push_back('\n');
  if (is_pipe_) return write_to_pipe();
  try {
    write_all(file_, path_, buffer_.data(), int64_t(buffer_.size()));
  } catch (...) {
    // This fails where nothing can be cut (a device), and then there is nothing to do.
    [[maybe_unused]] const int cut = ::ftruncate(file_.number(), off_t(whole_.bytes));
    throw;
  }
  whole_ = {whole_.bytes + int64_t(buffer_.size()), hash_of_line(buffer_, whole_.hash)};
}

std::optional<LinePosition> LineFile::position() const {
  if (!is_regular_) return std::nullopt;
  return whole_;
}

void LineFile::sync() const {
  if (is_regular_ && ::fsync(file_.number()) != 0) fail_file("make durable", path_, errno);
}

void LineFile::write_to_pipe() {
  const WithoutPipeSignal guard;
  for (size_t done = 0; done < buffer_.size();) {
    const ssize_t put = ::write(file_.number(), buffer_.data() + done, buffer_.size() - done);
    if (put > 0) done += size_t(put);
    if (put >= 0 || errno == EINTR) continue;
    if (errno != EAGAIN) fail_file("write", path_, errno);
    pollfd room{.fd = file_.number(), .events = POLLOUT, .revents = 0};
    const int ready = ::poll(&room, 1, int(patience_.count()));
    if (ready == 0) fail_file("write", path_, ETIMEDOUT);
    if (ready < 0 && errno != EINTR) fail_file("write", path_, errno);
  }
}

void LineFile::close() {
  if (const int error = file_.close()) fail_file("close", path_, error);
}

}  // namespace lockstep
