// SPDX-License-Identifier: Apache-2.0
// The running average of parameters, after the update of a step (optimizers/optimizer_set.h has its definition).
#pragma once

#include <cstdint>

#include "kernels/device/view.h"
#include "kernels/launch.h"
#include "optimizers/optimizer.h"

namespace lockstep {

// average = m average + (1 - m) param, with m = 0 in the first step; then param = average if the step is a multiple of
// overwrite_every. Nothing changes with decision->skip. Where `granules` have groups, variables of kNoGroup and their
// averages stay, because they are frozen. `iteration` is the number of the step, from 1. Pointers are to memory of the
// device.
struct AverageParameters {
  double momentum;
  int64_t overwrite_every;  // 0 is never
  const int64_t* iteration;
  const StepScalars* decision;
  View param;    // f32, or bf16, to which averages are then rounded
  View average;  // f32, of equal length
  GranuleMap granules = {};
};
void run(Cpu, Stream&, const AverageParameters&);
void run(Cuda, Stream&, const AverageParameters&);

}  // namespace lockstep
