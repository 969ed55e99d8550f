// SPDX-License-Identifier: Apache-2.0
// The way out for products whose library has no algorithm that adds the bias and activates as well.
#pragma once

#include "kernels/device/view.h"
#include "kernels/launch.h"
#include "kernels/matmul.h"

namespace lockstep {

// inout = activation(inout + bias), for rows of inout. In f32 these are the bits of a product that finishes itself; a
// narrow inout has been rounded once before.
struct FinishProduct {
  View inout;                                // [m, n], f32, bf16 or f16
  ConstView bias;                            // [n] of inout's dtype, or no dimension: none
  Activation activation = Activation::none;  // none or relu
};
void run(Cpu, Stream&, const FinishProduct&);
void run(Cuda, Stream&, const FinishProduct&);

}  // namespace lockstep
