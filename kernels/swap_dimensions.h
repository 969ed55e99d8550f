// SPDX-License-Identifier: Apache-2.0
// Exchanges the first two of three dimensions: so the parts of an inner dimension that ranks hold come together, and
// are taken apart.
#pragma once

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

struct SwapDimensions {  // out[b, a, :] = in[a, b, :]; f32, not in place
  View out;
  ConstView in;
  int64_t a, b, c;  // sizes of `in`
};
void run(Cpu, Stream&, const SwapDimensions&);
void run(Cuda, Stream&, const SwapDimensions&);

}  // namespace lockstep
