// SPDX-License-Identifier: Apache-2.0
// The steps of a run and their batches.
#pragma once

#include <cstdint>

#include "tools/checkpoint/run_checkpoints.h"
#include "tools/training/train_options.h"

namespace lockstep {

struct Course {
  int64_t first_step = 0, steps = 0;
  int64_t batch = 0, samples = 0;  // samples of a step and of an epoch
  int64_t per_epoch = 0;           // steps of an epoch
  int64_t batches_ahead = 0;       // of a step's number, where --batch was changed on the way

  DataPosition position_at(int64_t step) const {
    const int64_t next = step + batches_ahead;
    return {.epoch = next / per_epoch, .step_in_epoch = next % per_epoch, .batch = batch, .samples = samples};
  }
};

// `samples`: of an epoch. Error(usage) where the run would end before it goes on, and as batch_to_go_on_with().
Course plot_course(const TrainOptions& options, int64_t samples, const ResumedRun& resumed);

}  // namespace lockstep
