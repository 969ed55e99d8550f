// SPDX-License-Identifier: Apache-2.0
// Dropout (Srivastava et al. 2014) keyed by sample, never by rank: of the same sample in the same step the same
// elements are dropped wherever it is computed.
#pragma once

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

// One key for all dropouts of a step: philox mixes seed and step, and a kernel reads one number.
uint64_t dropout_key(uint64_t seed, int64_t step);

// out[r, c] = in[r, c] * factor, which is 0 with probability `rate` and 1 / (1 - rate) otherwise: a function of (key,
// sample_ids[r], op, c) alone. So the gradient is the same kernel on the output's gradient, and nothing is kept for it.
struct Dropout {
  View out;              // f32 or bf16
  ConstView in;          // as out; samples have equally many elements, one sample after the other
  ConstView sample_ids;  // [rows] i64
  ConstView key;         // [] i64: dropout_key(), on the device, so that a recorded launch serves every step
  uint32_t op;           // position of the op among the dropouts of one forward pass
  float rate;            // in [0, 1)
};
void run(Cpu, Stream&, const Dropout&);
void run(Cuda, Stream&, const Dropout&);

}  // namespace lockstep
