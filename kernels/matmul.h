// SPDX-License-Identifier: Apache-2.0
// Matrix products. On the CPU oneDNN where present, Eigen otherwise; on the GPU cuBLASLt.
#pragma once

#include <string_view>

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

// out = op(a) . op(b), added to out when `accumulate`. op() transposes where asked. All f32.
// The order of summation is a function of the shapes alone: the same bits for any number of threads.
struct Matmul {
  View out;     // [m, n]
  ConstView a;  // [m, k], or [k, m] when transpose_a
  ConstView b;  // [k, n], or [n, k] when transpose_b
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;
};
int64_t scratch_bytes(Cpu, Stream&, const Matmul&);
int64_t scratch_bytes(Cuda, Stream&, const Matmul&);
void run(Cpu, Stream&, const Matmul&, std::byte* scratch);
void run(Cuda, Stream&, const Matmul&, std::byte* scratch);

// The library behind the CPU half: "oneDNN 2.6.3" or "Eigen 3.4.0".
std::string_view matmul_library();

// The whole product in one plain call of that library on the calling thread: what Matmul is measured against.
void matmul_by_library(const Matmul&);

}  // namespace lockstep
