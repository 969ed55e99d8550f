// SPDX-License-Identifier: Apache-2.0
// The seam between the CPU half of Matmul, which cuts the output into blocks, and the library that computes one block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kernels/matmul.h"

namespace lockstep {

// out = op(a) . op(b), or added to out. Row-major: a row starts every ld_... floats. No dimension is zero.
struct MatmulBlock {
  float* out;
  const float* a;
  const float* b;
  int64_t m, n, k;
  int64_t ld_out, ld_a, ld_b;
  bool transpose_a, transpose_b, accumulate;
};

// What a library provides: the bytes of scratch that a block needs, a function of its shape, and the block, computed on
// the calling thread alone.
struct MatmulLibrary {
  int64_t (*scratch_bytes)(const MatmulBlock&);
  void (*run)(const MatmulBlock&, std::byte* scratch);
};

namespace onednn {
int64_t matmul_block_scratch(const MatmulBlock&);
void matmul_block(const MatmulBlock&, std::byte* scratch);
inline constexpr MatmulLibrary kMatmul{matmul_block_scratch, matmul_block};
void plain_call(const MatmulBlock&);  // nothing but the library's call
std::string_view matmul_library();
std::string matmul_numerics();  // what numerics() says of it
}  // namespace onednn

namespace eigen {
int64_t matmul_block_scratch(const MatmulBlock&);
void matmul_block(const MatmulBlock&, std::byte* scratch);
inline constexpr MatmulLibrary kMatmul{matmul_block_scratch, matmul_block};
std::string_view matmul_library();
std::string matmul_numerics();
}  // namespace eigen

// The CPU half of Matmul with a given library.
int64_t matmul_scratch(Stream&, const Matmul&, const MatmulLibrary&);
void run_matmul(Stream&, const Matmul&, const MatmulLibrary&, std::byte* scratch);

}  // namespace lockstep
