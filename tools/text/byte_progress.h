// SPDX-License-Identifier: Apache-2.0
// Shows people how far a pass over files is: one line rewritten in place on a terminal, nothing elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

#include "runtime/files/terminal_line.h"

namespace lockstep {

class ByteProgress {
 public:
  // Silent if terminal == nullptr. `doing` begins the line: "encoding".
  ByteProgress(std::string doing, int64_t bytes, std::FILE* terminal);
  ~ByteProgress();  // clears the line

  void at(int64_t bytes);

 private:
  using Clock = std::chrono::steady_clock;
  std::string doing_;
  int64_t bytes_;
  std::FILE* terminal_;
  TerminalLine line_;
  Clock::time_point start_ = Clock::now(), last_ = start_;
};

}  // namespace lockstep
