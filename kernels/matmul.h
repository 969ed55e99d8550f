// SPDX-License-Identifier: Apache-2.0
// Matrix products. On the CPU oneDNN where present, Eigen otherwise; on the GPU cuBLASLt.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

enum class Activation : uint8_t { none, relu, gelu };

// out = activation(op(a) . op(b) + bias), the former out added inside when `accumulate`. op() transposes where asked.
// a and b are both f32, both bf16 or both f16; sums are f32 (on a GPU too: no TF32) and rounded once, at the very end,
// where out is narrow. The order of summation is a function of the shapes alone: the same bits for any number of
// threads.
struct Matmul {
  View out;     // [m, n] f32; or the dtype of a and b
  ConstView a;  // [m, k], or [k, m] when transpose_a
  ConstView b;  // [k, n], or [n, k] when transpose_b
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;
  ConstView bias = {};                       // [n] of out's dtype, added to every row; of no dimension: none
  Activation activation = Activation::none;  // bias and activation want k > 0
  View before = {};                          // [m, n]: what gelu was taken of, for its gradient; gelu wants it, and f32

  // Shapes tell: a rehearsal has no data.
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

// The whole f32 product in one plain call of that library on the calling thread: what Matmul is measured against.
void matmul_by_library(const Matmul&);

}  // namespace lockstep
