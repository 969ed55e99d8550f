// SPDX-License-Identifier: Apache-2.0
// The seam between the CPU half of the convolutions and the library that may have a better way than columns.
#pragma once

#include <optional>

#include "kernels/conv2d.h"

namespace lockstep {

// Images are computed in groups of this many and a last smaller one, each group by one thread: the partition, and with
// it the bits, depends on the batch alone.
inline constexpr int64_t kConv2dGroup = 4;

namespace onednn {
// Nothing where the library only has its reference implementation for the shape. Gradients of weights are not asked
// for: by columns they are faster.
std::optional<int64_t> conv2d_scratch(Stream&, const Conv2d&);
std::optional<int64_t> conv2d_scratch(Stream&, const Conv2dGradInput&);
// False, with nothing done, where conv2d_scratch gives nothing.
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
