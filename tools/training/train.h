// SPDX-License-Identifier: Apache-2.0
// One rank's part of `lockstep train`.
#pragma once

#include <string>

#include "collectives/communicator.h"
#include "tools/training/stop_request.h"
#include "tools/training/train_options.h"

namespace lockstep {

struct TrainResult {
  std::string text;  // one line of results: "test_accuracy=0.8844 images_per_second=..."
  int64_t steps = 0;
  int signal = 0;  // other than 0: the run was stopped by it, and not evaluated
};

// Collective. Rank 0 prints progress and writes the files. When some rank is `asked` to stop, all end after the same
// step, and rank 0 writes the weights and says so.
TrainResult train(const TrainOptions& options, Communicator& communicator, const StopRequest& asked);

}  // namespace lockstep
