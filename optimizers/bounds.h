// SPDX-License-Identifier: Apache-2.0
// Parameters that have to stay within bounds are brought back after the update, as by Keras' constraints of this kind.
#pragma once

#include <limits>

#include "kernels/device/view.h"
#include "kernels/launch.h"
#include "optimizers/optimizer.h"

namespace lockstep {

struct Bounds {
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum = std::numeric_limits<double>::infinity();
};

// Brings every element into the bounds; a NaN stays. Does nothing with decision->skip.
struct KeepWithin {
  View param;  // f32, or bf16
  Bounds bounds;
  const StepScalars* decision;  // in memory of the device
};
void run(Cpu, Stream&, const KeepWithin&);
void run(Cuda, Stream&, const KeepWithin&);

}  // namespace lockstep
