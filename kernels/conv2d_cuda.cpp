// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv2d_columns.h"

namespace lockstep {

void run(Cuda, Stream& stream, const Conv2d& op) { conv2d_by_columns(stream, op); }
void run(Cuda, Stream& stream, const Conv2dGradInput& op) { conv2d_by_columns(stream, op); }
void run(Cuda, Stream& stream, const Conv2dGradWeight& op) { conv2d_by_columns(stream, op); }

}  // namespace lockstep
