// SPDX-License-Identifier: Apache-2.0
// Shows people how a run is going: one line rewritten in place on a terminal, plain lines now and then elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

#include "runtime/data/step_input.h"
#include "runtime/files/terminal_line.h"

namespace lockstep {

// What a run counts by, and what it shows besides the loss.
struct ProgressWords {
  std::string unit = "images";
  int64_t units_per_sample = 1;
  // A named sum of the model's as a share of samples; empty: none.
  std::string share_name = "accuracy", share_sum = "correct";
  // The loss is the mean since the last line, otherwise since the beginning of the epoch: some epochs are long.
  bool recent_loss = false;
};

class Progress {
 public:
  // Silent if out == nullptr (ranks other than 0).
  // `first_step`: those before it were taken by another run.
  Progress(std::FILE* out, bool terminal, int64_t steps, int64_t steps_per_epoch, ProgressWords words = {},
           int64_t first_step = 0);

  // Adds a step of `samples` samples. Asks for its report, which covers all before it, only where a line is due: on a
  // GPU asking means waiting.
  void step(int64_t step, int64_t samples, const std::function<const StepReport&()>& report);
  double units_per_second() const;

  // What happens between the two is not training: its time does not count. Lines of its own may be printed meanwhile.
  void pause();
  void go_on();

 private:
  using Clock = std::chrono::steady_clock;
  void print(int64_t step, bool end_of_epoch, const StepReport& report);

  std::FILE* out_;
  bool terminal_;
  TerminalLine line_;
  int64_t first_step_, steps_, steps_per_epoch_;
  ProgressWords words_;
  int64_t samples_ = 0;
  int64_t shown_samples_ = 0;  // those that the next line is about
  // Sums over all samples before these.
  double loss_before_ = 0;
  double share_before_ = 0;
  Clock::time_point start_ = Clock::now(), last_print_ = start_, paused_ = start_;
};

}  // namespace lockstep
