// SPDX-License-Identifier: Apache-2.0
// What code of a kernel calls while it runs on the CPU: where it is, and the primitives of warp and block.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace cuda_emulation {

// Out of line, so that the thread sanitizer does not take the scheduler's records for memory of the kernel.
const uint3& thread_index();
const uint3& block_index();
const dim3& block_size();
const dim3& grid_size();

// Where a primitive is called: file, and line with column, so that two calls on one line differ.
struct Site {
  const char* file = "";
  unsigned position = 0;
};

enum class BarrierKind { plain, count, all, any };
int block_barrier(BarrierKind kind, int predicate, const Site& site);
void warp_barrier(unsigned mask, const Site& site);
void grid_barrier(const Site& site);

enum class WarpKind { index, up, down, exclusive_or, ballot, any, all, add };
uint64_t warp_exchange(WarpKind kind, unsigned mask, uint64_t value, int argument, int width, const Site& site);

// Memory of the block, found by `tag`, painted with 0xFF on its first use in a block.
void* shared_memory(const void* tag, size_t bytes, size_t alignment);
void* dynamic_shared_memory();

void fence();
// Around an atomic operation on `address`: with fences, how blocks hand data to one another.
void before_atomic(const void* address);
void after_atomic(const void* address);

template <class T>
uint64_t bits_of(T value) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}
template <class T>
T value_of(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace cuda_emulation
