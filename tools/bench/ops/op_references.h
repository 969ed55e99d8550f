// SPDX-License-Identifier: Apache-2.0
// The ops in plain double loops, which their f32 kernels are compared with.
#pragma once

#include <functional>
#include <vector>

#include "tools/bench/ops/op_cases.h"

namespace lockstep::reference {

using Inputs = std::vector<DoubleTensor>;

DoubleTensor map(const DoubleTensor& x, const std::function<double(double)>& f);
DoubleTensor map(const DoubleTensor& a, const DoubleTensor& b, const std::function<double(double, double)>& f);
double relu(double x);
double gelu(double x);
double sigmoid(double x);
DoubleTensor matmul(const DoubleTensor& a, const DoubleTensor& b);
DoubleTensor linear(const Inputs& x);                 // x, weight, bias
DoubleTensor layer_norm(const Inputs& x);             // x, gain, shift; epsilon 1e-5
DoubleTensor softmax_cross_entropy(const Inputs& x);  // logits, labels
DoubleTensor mean(const DoubleTensor& x);
DoubleTensor conv2d(const Inputs& x, int stride, int padding);  // x, weight, bias
DoubleTensor max_pool2d(const DoubleTensor& x, int window, int stride);
DoubleTensor dropout(const DoubleTensor& x, double rate, uint64_t seed, int64_t step);  // the first random op of a pass

}  // namespace lockstep::reference
