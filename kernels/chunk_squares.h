// SPDX-License-Identifier: Apache-2.0
// Sums the squares of gradients in double, chunk by chunk. Norms are made of these sums, and they show numbers that are
// not finite (a square of an f32 never overflows in double).
#pragma once

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

// Elements of a chunk. Chunks are counted from a variable's first element, so that neither buckets nor ranks matter.
inline constexpr int64_t kSquareChunk = 4096;

// sums[c] = sum of values[i]^2 for i in [begins[c], ends[c]), in the order of a Team: 256 lanes, folded by halves.
struct ChunkSquares {
  View sums;               // [chunks] f64
  ConstView values;        // [elements] f32
  ConstView begins, ends;  // [chunks] i64, on the device
};
void run(Cpu, Stream&, const ChunkSquares&);
void run(Cuda, Stream&, const ChunkSquares&);

// sums[v] = sum of chunks[c] for c in [first_chunk[v], first_chunk[v + 1]), in the order of a Team.
struct SumsOfChunks {
  View sums;              // [variables] f64
  ConstView chunks;       // [chunks] f64
  ConstView first_chunk;  // [variables + 1] i64, on the device
};
void run(Cpu, Stream&, const SumsOfChunks&);
void run(Cuda, Stream&, const SumsOfChunks&);

}  // namespace lockstep
