// SPDX-License-Identifier: Apache-2.0
// The seam between the CPU half of the convolutions and the library that may have a better way than columns.
#pragma once

#include "kernels/conv2d.h"

namespace lockstep {

// Images are computed in groups of this many and a last smaller one, each group by one thread: the partition, and with
// it the bits, depends on the batch alone.
inline constexpr int64_t kConv2dGroup = 4;

namespace onednn {
// False, with nothing done, where the library only has its reference implementation for the shape. Gradients of weights
// are not asked for: by columns they are faster.
bool conv2d(Stream&, const Conv2d&);
bool conv2d(Stream&, const Conv2dGradInput&);
}  // namespace onednn

// The CPU's convolutions without a library.
void conv2d_in_groups(Stream&, const Conv2d&);
void conv2d_in_groups(Stream&, const Conv2dGradInput&);
void conv2d_in_groups(Stream&, const Conv2dGradWeight&);

}  // namespace lockstep
