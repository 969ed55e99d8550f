// SPDX-License-Identifier: Apache-2.0
// Bump allocation for objects that live as long as one forward and backward pass; memory is kept for the next pass.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

namespace lockstep {

class BumpAllocator {
 public:
  // The memory is aligned to 16 bytes and valid until reset().
  void* take(size_t bytes) {
    bytes = (bytes + 15) / 16 * 16;
    while (chunk_ < chunks_.size() && used_ + bytes > chunks_[chunk_].bytes) {
      ++chunk_;
      used_ = 0;
    }
    if (chunk_ == chunks_.size()) {
      const size_t size = std::max(bytes, kChunkBytes);
      chunks_.push_back({std::make_unique_for_overwrite<std::byte[]>(size), size});
      used_ = 0;
    }
    void* memory = chunks_[chunk_].memory.get() + used_;
    used_ += bytes;
    return memory;
  }
  void reset() { chunk_ = used_ = 0; }

 private:
  static constexpr size_t kChunkBytes = 64 * 1024;
  struct Chunk {
    std::unique_ptr<std::byte[]> memory;
    size_t bytes;
  };
  std::vector<Chunk> chunks_;
  size_t chunk_ = 0, used_ = 0;
};

}  // namespace lockstep
