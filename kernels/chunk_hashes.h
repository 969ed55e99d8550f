// SPDX-License-Identifier: Apache-2.0
// Hashes of memory, chunk by chunk, for copies to be compared by. Every word is mixed with its number, and what comes
// out is added up modulo 2^64: in any order, so that threads and devices share the work as they like. Mixing is one to
// one, so a difference in one word of a chunk is found with certainty; several differences hide each other with a
// probability of about 2^-64.
#pragma once

#include <cstdint>

#include "kernels/device/view.h"
#include "kernels/host_device.h"
#include "kernels/launch.h"

namespace lockstep {

inline constexpr int64_t kHashChunk = 2048;  // words

// The last steps of splitmix64 (Steele, Lea and Flood, 2014), with one of two multiplications.
HOST_DEVICE inline uint64_t mixed_word(uint64_t word, uint64_t number) {
  uint64_t x = word + number * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 32)) * 0xbf58476d1ce4e5b9u;
  return x ^ (x >> 29);
}

// sums[c] = sum of mixed_word(words[i], first + i) over the words i of chunk c.
struct ChunkHashes {
  View sums;          // [chunks] i64
  ConstView words;    // [words] i64 or i32, of which the last chunk may have fewer
  int64_t first = 0;  // the number of the first word
};
void run(Cpu, Stream&, const ChunkHashes&);
void run(Cuda, Stream&, const ChunkHashes&);

}  // namespace lockstep
