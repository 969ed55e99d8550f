// SPDX-License-Identifier: Apache-2.0
// Forward and backward pass of one leaf of the batch: what training runs and a rehearsal counts.
#pragma once

#include "runtime/step_input.h"

namespace lockstep {

// Records the forward pass on the context's tape, stores the sums of losses and right answers in `cells` (f64, two by
// leaf), and runs the backward pass with `weight` for every sample, times `scale` (on the device) if that is not null.
void run_passes(Context& context, const Forward& forward, const LeafInput& leaf, const View& cells, float weight,
                const Tape::OnReady& ready, const double* scale = nullptr);

}  // namespace lockstep
