// SPDX-License-Identifier: Apache-2.0
// Has a profiler that waits for it record some of the steps, at most to the end of the run.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/device/profiling.h"
#include "tools/training/train_options.h"

namespace lockstep {

class ProfiledSteps {
 public:
  explicit ProfiledSteps(const StepInterval& steps) : steps_(steps) {}
  ProfiledSteps(const ProfiledSteps&) = delete;
  ProfiledSteps& operator=(const ProfiledSteps&) = delete;
  ~ProfiledSteps() { end(); }

  void begin(int64_t step) {
    if (step != steps_.first) return;
    start_profiler();
    records_ = true;
  }
  bool ends_after(int64_t step) const { return records_ && step == steps_.last; }
  void end() {
    if (std::exchange(records_, false)) stop_profiler();
  }

 private:
  StepInterval steps_;
  bool records_ = false;
};

}  // namespace lockstep
