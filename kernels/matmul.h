// SPDX-License-Identifier: Apache-2.0
// Matrix products: by oneDNN where present or else by Eigen on the CPU, by cuBLASLt on the GPU.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

enum class Activation : uint8_t { none, relu, gelu };

// out = activation(op(a) . op(b) + bias); with `accumulate` the former out is added inside. op() transposes where
// asked. a and b are both f32, both bf16 or both f16; sums are f32 (on a GPU too: no TF32) and rounded once, at the
// very end, where out is narrow (twice on a GPU whose library cannot add the bias itself). The order of summation is a
// function of the shapes alone, so any number of threads gives the same bits.
struct Matmul {
  View out;     // [m, n], f32 or the dtype of a and b
  ConstView a;  // [m, k], or [k, m] when transpose_a
  ConstView b;  // [k, n], or [n, k] when transpose_b
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;
  ConstView bias = {};                       // [n] of out's dtype, added to every row; none if it has no dimension
  Activation activation = Activation::none;  // bias and activation want k > 0
  // [m, n] of out's dtype: the argument of gelu, kept for its gradient, and rounded before gelu where it is narrow.
  // Gelu wants it.
  View before = {};

  // The shape tells, because a rehearsal has no data.
  bool has_bias() const { return bias.shape.rank() == 1; }
};
int64_t scratch_bytes(Cpu, Stream&, const Matmul&);
int64_t scratch_bytes(Cuda, Stream&, const Matmul&);
void run(Cpu, Stream&, const Matmul&, std::byte* scratch);
void run(Cuda, Stream&, const Matmul&, std::byte* scratch);

// Throws Error(plan) naming what does not fit.
void check_matmul(const Matmul&);

// The library behind the CPU half: "oneDNN 2.6.3" or "Eigen 3.4.0".
std::string_view matmul_library();

// Computes the whole f32 product in one plain call of that library on the calling thread, to measure Matmul against.
void matmul_by_library(const Matmul&);

}  // namespace lockstep
