// SPDX-License-Identifier: Apache-2.0
// Dropout masks (Srivastava et al. 2014) keyed by sample, never by rank: the same sample in the same step gets the same
// mask wherever it is computed.
#pragma once

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

// One key for all masks of a step: philox mixes seed and step, and a kernel reads one number.
uint64_t dropout_key(uint64_t seed, int64_t step);

// mask[r, c] = 0 with probability `rate`, else 1 / (1 - rate); a function of (key, sample_ids[r], op, c) alone.
struct DropoutMask {
  View mask;             // [rows, columns]
  ConstView sample_ids;  // [rows] i64
  ConstView key;         // [] i64: dropout_key(), on the device, so that a recorded launch serves every step
  uint32_t op;           // position of the op among the dropouts of one forward pass
  float rate;            // in [0, 1)
};
void run(Cpu, Stream&, const DropoutMask&);
void run(Cuda, Stream&, const DropoutMask&);

}  // namespace lockstep
