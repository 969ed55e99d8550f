// SPDX-License-Identifier: Apache-2.0
// Sums the squares of gradients in double, chunk by chunk. Norms are made of these sums, and they show numbers that are
// not finite (a square of an f32 never overflows in double).
#pragma once

#include "kernels/device/view.h"
#include "kernels/host_device.h"
#include "kernels/launch.h"

namespace lockstep {

// A tensor has at most kMostSquareChunks chunks, of kSquareChunk elements or, where it is large, of a multiple: one
// team adds the chunks of a tensor up, and its time must not grow with the tensor.
inline constexpr int64_t kSquareChunk = 4096, kMostSquareChunks = 1024;

// The chunks of a tensor, counted from its first element, so that neither buckets nor ranks matter.
struct SquareChunks {
  int64_t elements;
  HOST_DEVICE int64_t length() const {
    constexpr int64_t kAtOnce = kSquareChunk * kMostSquareChunks;
    return (elements + kAtOnce - 1) / kAtOnce * kSquareChunk;
  }
  HOST_DEVICE int64_t count() const { return elements > 0 ? (elements + length() - 1) / length() : 0; }
  HOST_DEVICE int64_t begin(int64_t chunk) const { return chunk * length(); }
  HOST_DEVICE int64_t end(int64_t chunk) const {
    const int64_t next = begin(chunk + 1);
    return next < elements ? next : elements;
  }
};

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
