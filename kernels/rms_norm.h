// SPDX-License-Identifier: Apache-2.0
// Root-mean-square normalisation over the last dimension (Zhang & Sennrich 2019), with gradients. Rows and their
// gradients are f32 or bf16; statistics, gain and its gradient are f32.
#pragma once

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

// out[r, c] = in[r, c] * rstd[r] * gain[c],   rstd = 1 / sqrt(mean over c of in[r, c]^2 + epsilon)
struct RmsNorm {
  View out;   // [rows, columns]
  View rstd;  // [rows], kept for the gradient
  ConstView in, gain;
  float epsilon;
};
void run(Cpu, Stream&, const RmsNorm&);
void run(Cuda, Stream&, const RmsNorm&);

// The same of a sum that is kept, too, in one pass: norm.in = a + b, in the dtype of all three. Same bits as two
// kernels.
struct AddRmsNorm {
  View sum;  // norm.in, to be written
  ConstView a, b;
  RmsNorm norm;
};
void run(Cpu, Stream&, const AddRmsNorm&);
void run(Cuda, Stream&, const AddRmsNorm&);

// d_in = rstd * (g - x_hat * mean(g * x_hat)) with g = d_out * gain and x_hat = in * rstd, means over the columns of a
// row; with `accumulate` it is rounded to the dtype of d_in and added.
struct RmsNormGradInput {
  View d_in;
  ConstView d_out, in, gain, rstd;
  bool accumulate = false;
};
void run(Cpu, Stream&, const RmsNormGradInput&);
void run(Cuda, Stream&, const RmsNormGradInput&);

// d_gain[c] = sum over r of d_out[r, c] * x_hat[r, c]
struct RmsNormGradGain {
  View d_gain;
  ConstView d_out, in, rstd;
};
int64_t scratch_bytes(Cpu, Stream&, const RmsNormGradGain&);
void run(Cpu, Stream&, const RmsNormGradGain&, std::byte* scratch);
int64_t scratch_bytes(Cuda, Stream&, const RmsNormGradGain&);
void run(Cuda, Stream&, const RmsNormGradGain&, std::byte* scratch);

}  // namespace lockstep
