// SPDX-License-Identifier: Apache-2.0
// Shows people how far a pass over files is: one line rewritten in place on a terminal, nothing elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace lockstep {

class ByteProgress {
 public:
  // Silent if `terminal` is false. `doing` begins the line: "encoding".
  ByteProgress(std::string doing, int64_t bytes, bool terminal);
  ~ByteProgress();  // clears the line

  void at(int64_t bytes);

 private:
  using Clock = std::chrono::steady_clock;
  std::string doing_;
  int64_t bytes_;
  bool terminal_;
  bool drawn_ = false;
  Clock::time_point start_ = Clock::now(), last_ = start_;
};

}  // namespace lockstep
