// SPDX-License-Identifier: Apache-2.0
// Layer normalisation over the last dimension (Ba, Kiros & Hinton 2016), with gradients. Rows and their gradients are
// f32 or bf16; statistics, gain, shift and their gradients are f32.
#pragma once

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

// out[r, c] = (in[r, c] - mean[r]) * rstd[r] * gain[c] + shift[c],   rstd = 1 / sqrt(variance + epsilon)
struct LayerNorm {
  View out;         // [rows, columns]
  View mean, rstd;  // [rows], kept for the gradient
  ConstView in, gain, shift;
  float epsilon;
};
void run(Cpu, Stream&, const LayerNorm&);
void run(Cuda, Stream&, const LayerNorm&);

// The same of a sum that is kept, too, in one pass: norm.in = a + b, in the dtype of all three. Same bits as two
// kernels.
struct AddLayerNorm {
  View sum;  // norm.in, to be written
  ConstView a, b;
  LayerNorm norm;
};
void run(Cpu, Stream&, const AddLayerNorm&);
void run(Cuda, Stream&, const AddLayerNorm&);

// d_in = rstd * (g - mean(g) - x_hat * mean(g * x_hat)) with g = d_out * gain, means over the columns of a row; with
// `accumulate` it is rounded to the dtype of d_in and added.
struct LayerNormGradInput {
  View d_in;
  ConstView d_out, in, gain, mean, rstd;
  bool accumulate = false;
};
void run(Cpu, Stream&, const LayerNormGradInput&);
void run(Cuda, Stream&, const LayerNormGradInput&);

// d_gain[c] = sum over r of d_out[r, c] * x_hat[r, c]. (The gradient of shift is ColumnSum of d_out.)
struct LayerNormGradGain {
  View d_gain;
  ConstView d_out, in, mean, rstd;
};
int64_t scratch_bytes(Cpu, Stream&, const LayerNormGradGain&);
void run(Cpu, Stream&, const LayerNormGradGain&, std::byte* scratch);
int64_t scratch_bytes(Cuda, Stream&, const LayerNormGradGain&);
void run(Cuda, Stream&, const LayerNormGradGain&, std::byte* scratch);

}  // namespace lockstep
