// SPDX-License-Identifier: Apache-2.0
// The differentiable ops: the vocabulary of models; those for language models are in language.h. Every op has a case in
// tools/bench/ops/op_cases.cpp, which checks its value and gradient and gives it a row in the benchmark. Comments give
// shapes; Error(plan) when they do not fit.
//
// Note [Dtypes]. Tensors are f32, with two exceptions. Weights of products (matmul, linear, conv2d) may be bf16 or f16:
// the other operand is rounded to that dtype, forwards and backwards, and sums and results are f32. And activations of
// the ops that language models are made of may be bf16: the result is too, and so are gradients of activations. An op
// computes in f32 and rounds once, where it writes; its products then take weights and biases rounded to bf16.
// Gradients of variables, statistics of rows and losses are f32.
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

// While training, drops elements of x with probability `rate` and scales the others by 1 / (1 - rate); in evaluation
// gives x itself. The samples of Context::random().sample_ids have equally many rows of x, one after the other.
Tensor dropout(Call call, const Tensor& x, float rate);

Tensor matmul(Call call, const Tensor& a, const Tensor& b);             // [m, k] . [k, n] -> [m, n]
Tensor matmul_transposed(Call call, const Tensor& a, const Tensor& b);  // [m, k] . [n, k] transposed -> [m, n]
// x . weight + bias: [rows, in] . [in, out] + [out] -> [rows, out]
Tensor linear(Call call, const Tensor& x, const Tensor& weight, const Tensor& bias);
// gelu(linear(x, weight, bias)) in one pass less over memory, with the same bits.
Tensor linear_gelu(Call call, const Tensor& x, const Tensor& weight, const Tensor& bias);

// Normalises over the last dimension; gain and shift have its size.
Tensor layer_norm(Call call, const Tensor& x, const Tensor& gain, const Tensor& shift, float epsilon = 1e-5f);
// sum = add(x, y) and layer_norm() of it in one pass over memory, with the same bits. Their gradients are those of two
// ops, of which the norm adds its own to that of the sum in place.
struct SumAndNorm {
  Tensor sum, norm;
};
SumAndNorm add_layer_norm(Call call, const Tensor& x, const Tensor& y, const Tensor& gain, const Tensor& shift,
                          float epsilon = 1e-5f);

// [rows, classes] and labels [rows] i32 in [0, classes) -> loss of each row, [rows]
Tensor softmax_cross_entropy(Call call, const Tensor& logits, const Tensor& labels);

Tensor mean(Call call, const Tensor& x);  // mean of all elements -> []
Tensor reshape(Call call, const Tensor& x, const Shape& shape);

// Error(plan) unless a and b have one shape and dtype.
void check_alike(std::string_view op, const Tensor& a, const Tensor& b);
// Records that `sum` is a + b. Where an op has computed it: a part of ops.
void record_sum(const Call& call, const Tensor& a, const Tensor& b, Tensor& sum);
// x rounded to nearest in this floating dtype; x itself if it has it. Off the tape: a part of ops.
Tensor as_dtype(Context& context, const Tensor& x, DType dtype);

// [batch, height, width, channels], weight [kernel_height, kernel_width, channels, out_channels], bias [out_channels]
Tensor conv2d(Call call, const Tensor& x, const Tensor& weight, const Tensor& bias,
              const Conv2dGeometry& geometry = {});
Tensor max_pool2d(Call call, const Tensor& x, int window, int stride);

// These work over the ranks along one axis of the mesh (Context::set_groups()). Every rank calls them in the same
// order, in both directions. Sums go along the canonical tree over the ranks of the axis (ordered_sum.h), which gives
// the same bits on CPUs and GPUs, however ranks lie on nodes. An axis of one rank gives x itself. Error(plan) for an
// unknown axis names those that exist.
//
// The gradients of these three are those of the sum of all ranks' losses, so what a rank did to the others counts.
Tensor all_reduce(Call call, const Tensor& x, std::string_view axis);  // the sum over ranks, on all
// [.., n, ..] -> [.., ranks n, ..]: the parts of all ranks along `dimension`, in rank order
Tensor all_gather(Call call, const Tensor& x, int dimension, std::string_view axis);
// [.., ranks n, ..] -> [.., n, ..]: this rank's part along `dimension` of the sum over ranks
Tensor reduce_scatter(Call call, const Tensor& x, int dimension, std::string_view axis);
// The pair around a product that is split over the axis, f and g of Megatron-LM (Shoeybi et al. 2019). Before and
// behind it all ranks hold the same, and compute one loss between them, which counts once. copy_to_axis is x, and its
// gradient is the sum over ranks; sum_over_axis is the sum over ranks, and its gradient passes through.
Tensor copy_to_axis(Call call, const Tensor& x, std::string_view axis);
Tensor sum_over_axis(Call call, const Tensor& x, std::string_view axis);

}  // namespace lockstep
