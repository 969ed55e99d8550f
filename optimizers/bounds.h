// SPDX-License-Identifier: Apache-2.0
// Parameters that have to stay within bounds, as Keras' constraints of this kind: brought back after the update.
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

// Every element below the minimum becomes the minimum, and so above; a NaN stays. With decision->skip nothing.
struct KeepWithin {
  View param;  // f32, or bf16
  Bounds bounds;
  const StepScalars* decision;  // in memory of the device
};
void run(Cpu, Stream&, const KeepWithin&);
void run(Cuda, Stream&, const KeepWithin&);

}  // namespace lockstep
