// SPDX-License-Identifier: Apache-2.0
// One rank's part of `lockstep train`.
#pragma once

#include "collectives/communicator.h"
#include "tools/training/train_options.h"

namespace lockstep {

struct TrainResult {
  double test_accuracy = 0;
  double images_per_second = 0;
  int64_t steps = 0;
};

// Collective. Rank 0 prints progress and writes the files.
TrainResult train(const TrainOptions& options, Communicator& communicator);

}  // namespace lockstep
