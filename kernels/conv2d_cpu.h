// SPDX-License-Identifier: Apache-2.0
// The seam between the CPU half of the convolutions and the library that may have a better way than columns.
#pragma once

#include "kernels/conv2d.h"

namespace lockstep::onednn {

// False, with nothing done, where the library only has its reference implementation for the shape.
bool conv2d(Stream&, const Conv2d&);
bool conv2d(Stream&, const Conv2dGradInput&);
bool conv2d(Stream&, const Conv2dGradWeight&);

}  // namespace lockstep::onednn
