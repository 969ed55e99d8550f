// SPDX-License-Identifier: Apache-2.0
// Rows of a table looked up by token, and the table's gradient, whose sums have one order whatever computes them.
#pragma once

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

// out[r, :] = table[tokens[r], :] + positions[r % length, :]
struct Embed {
  View out;                  // [rows, width], f32 or bf16
  ConstView tokens;          // [rows] i32, each in [0, entries)
  ConstView table;           // [entries, width] of any floating dtype
  ConstView positions = {};  // [at least length, width] of the table's dtype; none if it has no dimension
  int64_t length = 1;        // tokens of a sample, whose positions count from 0
};
void run(Cpu, Stream&, const Embed&);
void run(Cuda, Stream&, const Embed&);

// d_table[v, :] = sum over the rows r with tokens[r] = v of d_out[r, :]. The rows of a token, in ascending order, are
// cut into chunks of kChunk, so that no team's work grows with a token that is nearly everywhere. The first chunk's
// rows are added one after the other, with `accumulate` to what is there; then come the sums of the other chunks, in
// order. Rows are sorted by token, so every element has one writer.
struct EmbedGrad {
  static constexpr int64_t kChunk = 256;

  View d_table;     // [entries, width] f32
  ConstView d_out;  // [rows, width], f32 or bf16
  ConstView tokens;
  bool accumulate = false;
};
int64_t scratch_bytes(Cpu, Stream&, const EmbedGrad&);
void run(Cpu, Stream&, const EmbedGrad&, std::byte* scratch);
int64_t scratch_bytes(Cuda, Stream&, const EmbedGrad&);
void run(Cuda, Stream&, const EmbedGrad&, std::byte* scratch);

}  // namespace lockstep
