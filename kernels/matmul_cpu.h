// SPDX-License-Identifier: Apache-2.0
// The seam between the CPU half of Matmul, which cuts the output into blocks, and the library that computes one block.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/matmul.h"

namespace lockstep {

// out = op(a) . op(b), or added to out. Row-major, a row starts every ld_... floats. No dimension is zero.
struct MatmulBlock {
  float* out;
  const float* a;
  const float* b;
  int64_t m, n, k;
  int64_t ld_out, ld_a, ld_b;
  bool transpose_a, transpose_b, accumulate;
};

// Computes one block on the calling thread alone.
using MatmulBlockFunction = void (*)(const MatmulBlock&);

namespace onednn {
void matmul_block(const MatmulBlock&);
void plain_call(const MatmulBlock&);  // nothing but the library's call
std::string_view matmul_library();
}  // namespace onednn

namespace eigen {
void matmul_block(const MatmulBlock&);
std::string_view matmul_library();
}  // namespace eigen

// The CPU half of Matmul with a given library.
void run_matmul(Stream&, const Matmul&, MatmulBlockFunction);

}  // namespace lockstep
