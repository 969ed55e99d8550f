// SPDX-License-Identifier: Apache-2.0
// Something to say when a library ends the process, which it may do in ways that no handler of the process sees.
#pragma once

#include <sys/types.h>

#include <functional>

namespace lockstep {

// A child process waits while this lives. It calls `speak` if the process ends before; where no child can be started,
// nothing is said.
class LastWords {
 public:
  explicit LastWords(const std::function<void()>& speak);
  LastWords(const LastWords&) = delete;
  LastWords& operator=(const LastWords&) = delete;
  ~LastWords();

 private:
  pid_t child_ = -1;
  int alive_ = -1;  // the end of a pipe at which the child notices the end of this process
};

}  // namespace lockstep
