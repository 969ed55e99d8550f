// SPDX-License-Identifier: Apache-2.0
// One line per op; those of language models are in language_cases.cpp. It buys a check of the value and of every
// gradient against double arithmetic, a row in `lockstep bench kernels`, and an entry in the coverage test, which fails
// when an op of runtime/ops/ops.h or language.h has no line.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/autograd/context.h"

namespace lockstep {

// A tensor in double, for reference arithmetic. Labels are held as their values.
struct DoubleTensor {
  Shape shape;
  std::vector<double> values;
};

struct OpInput {
  Shape shape;
  DType dtype = DType::f32;
  bool differentiable = true;
  double low = -2, high = 2;    // values are uniform in between; labels are whole numbers in [low, high)
  DType gradient = DType::f32;  // dtype of its gradient: that of activations is their own
};

struct OpCase {
  std::string op;               // as in runtime/ops
  std::string note;             // tells two cases of one op apart
  std::vector<OpInput> inputs;  // small and odd, for the checks
  std::vector<OpInput> large;   // as in the shipped models, for the benchmark
  std::function<Tensor(Context&, const std::vector<Tensor>&)> run;
  std::function<DoubleTensor(const std::vector<DoubleTensor>&)> reference;
  // Error of the value and the gradients, relative to their greatest magnitude. Sums of n products of f32 err by about
  // sqrt(n) 2^-24; the functions of kernels/math.h by 2 ulp.
  double tolerance;
  // Arithmetic of one forward call on the large inputs; 0: memory is what counts.
  int64_t large_flops;
  DType activations = DType::f32;  // in which an embedding keeps them
};

std::vector<OpCase> op_cases();

// The key of dropout that set_sample_ids() sets.
uint64_t op_case_dropout_key();

// Inputs with random values, a function of `seed`, in memory of `pool`, on the stream's device. Labels are i32.
std::vector<Tensor> random_inputs(Stream& stream, Pool& pool, const std::vector<OpInput>& inputs, uint64_t seed);

// Gives a context what ops need: sample ids 0, 1, ... for `rows` samples. It fills `ids`, with a key behind them; `ids`
// and the result, which holds their copy on a GPU, must outlive the context's use.
Tensor set_sample_ids(Context& context, std::vector<int64_t>& ids, int64_t rows);

}  // namespace lockstep
