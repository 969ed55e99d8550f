// SPDX-License-Identifier: Apache-2.0
// Where a leaf's backward pass begins, and what the leaf came to, into the cells that ranks exchange.
#pragma once

#include <cstdint>

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

// cells[2 leaf] += loss[0];  cells[2 leaf + 1] += correct[0]
struct AddLeafResults {
  View cells;               // [>= 2 leaf + 2] f64
  ConstView loss, correct;  // [] f32: sums over the leaf's samples
  int64_t leaf;
};
void run(Cpu, Stream&, const AddLeafResults&);
void run(Cuda, Stream&, const AddLeafResults&);

// seed[i] = weight * scale[0]: the gradient of the whole loss by the loss of a sample.
struct SeedGradient {
  View seed;
  float weight;
  const double* scale;  // in memory of the device; null: 1
};
void run(Cpu, Stream&, const SeedGradient&);
void run(Cuda, Stream&, const SeedGradient&);

}  // namespace lockstep
