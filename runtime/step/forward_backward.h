// SPDX-License-Identifier: Apache-2.0
// The forward and backward pass of one part of the batch, which training runs and a rehearsal counts.
#pragma once

#include <string>
#include <vector>

#include "kernels/step_cells.h"
#include "runtime/autograd/tape.h"
#include "runtime/data/step_input.h"

namespace lockstep {

// The micro-batches that a part is cut into: its samples in order, without empty ones.
std::vector<BatchPart> micro_batches(const BatchPart& part, int64_t count);

// Records the forward pass on the context's tape, adds the sums of losses and named sums to the part's row of `cells`,
// and runs the backward pass with `weight` for every sample, times `scale` (on the device) if that is not null. Returns
// the results. Error(usage) when they are not one number per sample, or when the cells have no room for the sums.
Results forward_backward(Context& context, const Forward& forward, const BatchPart& part, const StepCells& cells,
                         float weight, const Tape::OnReady& ready, const double* scale = nullptr);

// The sum over one number per sample, [] f32.
Tensor sum_over_samples(Context& context, const Tensor& values);

}  // namespace lockstep
