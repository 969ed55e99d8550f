// SPDX-License-Identifier: Apache-2.0
// Sums over a matrix. Orders of summation are fixed by the shape (kernels/backend_cpu.h).
#pragma once

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

struct ColumnSum {  // out[c] = sum over r of in[r, c]
  View out;         // [columns] f32
  ConstView in;     // [rows, columns], f32 or bf16
};
int64_t scratch_bytes(Cpu, Stream&, const ColumnSum&);
void run(Cpu, Stream&, const ColumnSum&, std::byte* scratch);
int64_t scratch_bytes(Cuda, Stream&, const ColumnSum&);
void run(Cuda, Stream&, const ColumnSum&, std::byte* scratch);

// out[0] = scale * sum of all elements. Many elements are summed in chunks, and the chunks' sums again, so that no team
// of threads has more than one chunk to walk.
struct Sum {
  View out;  // one element
  ConstView in;
  float scale = 1;
};
inline constexpr int64_t kSumChunk = 1 << 16;
int64_t scratch_bytes(Cpu, Stream&, const Sum&);
void run(Cpu, Stream&, const Sum&, std::byte* scratch);
int64_t scratch_bytes(Cuda, Stream&, const Sum&);
void run(Cuda, Stream&, const Sum&, std::byte* scratch);

}  // namespace lockstep
