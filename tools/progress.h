// SPDX-License-Identifier: Apache-2.0
// How a run is going, for people: one line rewritten in place on a terminal, plain lines now and then elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace lockstep {

class Progress {
 public:
  // out == nullptr: silent (ranks other than 0).
  Progress(std::FILE* out, bool terminal, int64_t steps, int64_t steps_per_epoch);

  // One finished step of `samples` samples.
  void step(int64_t step, float loss, int64_t correct, int64_t samples);
  double samples_per_second() const;

 private:
  using Clock = std::chrono::steady_clock;
  void print(int64_t step, bool end_of_epoch);

  std::FILE* out_;
  bool terminal_;
  int64_t steps_, steps_per_epoch_;
  int64_t samples_ = 0;
  // Of the epoch so far.
  double loss_sum_ = 0;
  int64_t correct_ = 0, epoch_samples_ = 0;
  Clock::time_point start_ = Clock::now(), last_print_ = start_;
};

// "1:02:03", "2:03", "0:03"
std::string clock_text(double seconds);

}  // namespace lockstep
