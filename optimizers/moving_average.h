// SPDX-License-Identifier: Apache-2.0
// The running average of parameters, after the update of a step (optimizers/optimizer_set.h has its definition).
#pragma once

#include <cstdint>

#include "kernels/device/view.h"
#include "kernels/launch.h"
#include "optimizers/optimizer.h"

namespace lockstep {

// average = m average + (1 - m) param, with m = 0 in the first step; then param = average where the step is a multiple
// of overwrite_every. With decision->skip nothing, and nothing for variables of kNoGroup where `granules` have groups:
// what is frozen stays, and so does its average. `iteration`: the number of the step, from 1. Pointers are to memory of
// the device.
struct AverageParameters {
  double momentum;
  int64_t overwrite_every;  // 0: never
  const int64_t* iteration;
  const StepScalars* decision;
  View param;    // f32, or bf16, which averages are rounded to
  View average;  // f32, of equal length
  GranuleMap granules = {};
};
void run(Cpu, Stream&, const AverageParameters&);
void run(Cuda, Stream&, const AverageParameters&);

}  // namespace lockstep
