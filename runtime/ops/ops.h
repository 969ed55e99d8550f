// SPDX-License-Identifier: Apache-2.0
// The differentiable ops: the vocabulary of models. Every op has a case in tools/bench/ops/op_cases.cpp, which checks
// its value and gradient and gives it a row in the benchmark. All f32, but for weights of products (matmul, linear,
// conv2d), which may be bf16 or f16: the other operand is rounded to that dtype, forwards and backwards, sums and
// results are f32. Shapes in comments; Error(plan) when they do not fit.
#pragma once

#include "kernels/conv2d.h"
#include "runtime/autograd/context.h"

namespace lockstep {

Tensor add(Call call, const Tensor& a, const Tensor& b);       // equal shapes
Tensor multiply(Call call, const Tensor& a, const Tensor& b);  // equal shapes
Tensor relu(Call call, const Tensor& x);
Tensor gelu(Call call, const Tensor& x);
Tensor tanh(Call call, const Tensor& x);
Tensor sigmoid(Call call, const Tensor& x);

// x with elements dropped with probability `rate` and the others scaled by 1 / (1 - rate) while training, x itself in
// evaluation. The first dimension of x counts the samples of Context::random().sample_ids.
Tensor dropout(Call call, const Tensor& x, float rate);

Tensor matmul(Call call, const Tensor& a, const Tensor& b);  // [m, k] . [k, n] -> [m, n]
// x . weight + bias: [rows, in] . [in, out] + [out] -> [rows, out]
Tensor linear(Call call, const Tensor& x, const Tensor& weight, const Tensor& bias);
// gelu(linear(x, weight, bias)) in one pass over memory less, with the same bits.
Tensor linear_gelu(Call call, const Tensor& x, const Tensor& weight, const Tensor& bias);

// Over the last dimension, with gain and shift of its size.
Tensor layer_norm(Call call, const Tensor& x, const Tensor& gain, const Tensor& shift, float epsilon = 1e-5f);

// [rows, classes] and labels [rows] i32 in [0, classes) -> loss of each row, [rows]
Tensor softmax_cross_entropy(Call call, const Tensor& logits, const Tensor& labels);

Tensor mean(Call call, const Tensor& x);  // of all elements -> []
Tensor reshape(Call call, const Tensor& x, const Shape& shape);

// x in this floating dtype, rounded to nearest; x itself where it has it. Off the tape: a part of ops.
Tensor as_dtype(Context& context, const Tensor& x, DType dtype);

// [batch, height, width, channels], weight [kernel_height, kernel_width, channels, out_channels], bias [out_channels]
Tensor conv2d(Call call, const Tensor& x, const Tensor& weight, const Tensor& bias,
              const Conv2dGeometry& geometry = {});
Tensor max_pool2d(Call call, const Tensor& x, int window, int stride);

}  // namespace lockstep
