// SPDX-License-Identifier: Apache-2.0
#include "runtime/files/line_file.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
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
FileDescriptor open_to_append(const std::string& path, std::chrono::milliseconds patience) {
  const int flags =
      O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (may_follow(path) ? 0 : O_NOFOLLOW);
  const Clock::time_point end = Clock::now() + patience;
  for (;;) {
    FileDescriptor file(::open(path.c_str(), flags, 0666));
    if (file.is_open()) return file;
    if (errno != ENXIO || Clock::now() >= end) fail_file("write", path, errno);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
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

LineFile::LineFile(std::string path, std::chrono::milliseconds patience) : path_(std::move(path)), patience_(patience) {
  file_ = open_to_append(path_, patience);
  struct stat status;
  if (::fstat(file_.number(), &status) != 0) fail_file("look at", path_, errno);
  is_pipe_ = S_ISFIFO(status.st_mode);
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
    [[maybe_unused]] const int cut = ::ftruncate(file_.number(), whole_bytes_);
    throw;
  }
  whole_bytes_ += int64_t(buffer_.size());
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
