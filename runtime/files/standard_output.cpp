// SPDX-License-Identifier: Apache-2.0
#include "runtime/files/standard_output.h"

#include <fcntl.h>
#include <signal.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

// What is lost may show only when the buffer is emptied.
void check_output(bool printed) {
  const int error = errno;
  check(printed && std::ferror(stdout) == 0, ErrorCode::file, [&] {
    return str("cannot write the standard output: ", std::strerror(error), "; free some space, or print elsewhere");
  });
}

}  // namespace

void print_output(std::string_view text) {
  check_output(std::fwrite(text.data(), 1, text.size(), stdout) == text.size());
}

void flush_output() { check_output(std::fflush(stdout) == 0); }

void print_remark(std::string_view text) noexcept {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

void prepare_standard_streams() {
  // open() gives the lowest number that is free.
  for (int number = 0; number <= 2; ++number)
    if (::fcntl(number, F_GETFD) < 0 && errno == EBADF) (void)::open("/dev/null", O_RDWR);
  ::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace lockstep
