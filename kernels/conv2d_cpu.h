// SPDX-License-Identifier: Apache-2.0
// The seam between the CPU half of the convolutions and the library that may have a better way than columns.
#pragma once

#include <optional>

#include "kernels/conv2d.h"

namespace lockstep {

// Images are computed in groups of this many and a smaller last one, each group by one thread. So the partition, and
// with it the bits, depends on the batch alone.
inline constexpr int64_t kConv2dGroup = 4;

namespace onednn {
// Returns nothing where the library has only its reference implementation for the shape. Gradients of weights are not
// asked for, because they are faster by columns.
std::optional<int64_t> conv2d_scratch(Stream&, const Conv2d&);
std::optional<int64_t> conv2d_scratch(Stream&, const Conv2dGradInput&);
// Returns false and does nothing where conv2d_scratch() returns nothing.
bool conv2d(Stream&, const Conv2d&, std::byte* scratch);
bool conv2d(Stream&, const Conv2dGradInput&, std::byte* scratch);
}  // namespace onednn

// The CPU's convolutions without a library, and the scratch they need.
int64_t groups_scratch(Stream&, const Conv2d&);
int64_t groups_scratch(Stream&, const Conv2dGradInput&);
int64_t groups_scratch(Stream&, const Conv2dGradWeight&);
void conv2d_in_groups(Stream&, const Conv2d&, std::byte* scratch);
void conv2d_in_groups(Stream&, const Conv2dGradInput&, std::byte* scratch);
void conv2d_in_groups(Stream&, const Conv2dGradWeight&, std::byte* scratch);

}  // namespace lockstep
