// SPDX-License-Identifier: Apache-2.0
// Forward and backward pass of one leaf of the batch: what training runs and a rehearsal counts.
#pragma once

#include <vector>

#include "runtime/data/step_input.h"

namespace lockstep {

// The micro-batches that a leaf is cut into: of its samples, in order, those there are any of.
std::vector<LeafInput> micro_batches(const LeafInput& leaf, int64_t parts);

// Records the forward pass on the context's tape, adds the sums of losses and right answers to `cells` (f64, two by
// leaf), and runs the backward pass with `weight` for every sample, times `scale` (on the device) if that is not null.
void forward_backward(Context& context, const Forward& forward, const LeafInput& leaf, const View& cells, float weight,
                      const Tape::OnReady& ready, const double* scale = nullptr);

}  // namespace lockstep
