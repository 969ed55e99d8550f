// SPDX-License-Identifier: Apache-2.0
// Largest element of each window, channels last.
#pragma once

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

// out[n, y, x, c] = max over (i, j) < window of in[n, y * stride + i, x * stride + j, c]. A NaN in the window wins.
struct MaxPool2d {
  View out;      // [batch, out_height, out_width, channels]
  ConstView in;  // [batch, height, width, channels]
  int window = 2;
  int stride = 2;
};
void run(Cpu, Stream&, const MaxPool2d&);
void run(Cuda, Stream&, const MaxPool2d&);

// d_in = sum of d_out over the windows in which the element is the first one equal to the maximum. Overwrites d_in.
struct MaxPool2dGrad {
  View d_in;
  ConstView d_out;
  ConstView in;
  ConstView out;
  int window = 2;
  int stride = 2;
};
void run(Cpu, Stream&, const MaxPool2dGrad&);
void run(Cuda, Stream&, const MaxPool2dGrad&);

}  // namespace lockstep
