// SPDX-License-Identifier: Apache-2.0
// Device memory: a pool per rank and device, with a ledger of live bytes by purpose.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/device/device.h"
#include "kernels/device/view.h"

namespace lockstep {

// Why memory is held; the ledger counts each purpose separately.
enum class Purpose : uint8_t { parameters, gradients, slots, scalars, activations, data, scratch };
inline constexpr size_t kPurposes = 7;
std::string_view to_string(Purpose purpose);

// Counts bytes asked for, without the pool's rounding.
struct LiveBytes {
  int64_t now = 0;
  int64_t peak = 0;
};

class Pool;

// The header of a block's bytes: what a pool needs to take the block back, and the owners' count.
struct alignas(64) Block {
  Pool* pool;
  int64_t bytes;
  uint32_t references;
  uint16_t size_class;
  Purpose purpose;
  void* data;  // 64-byte aligned; real memory of the host lies directly behind the block
};

// Hands out blocks of one device and takes them back for reuse. Used by one thread; must outlive its blocks.
class Pool {
 public:
  explicit Pool(Device device) : Pool(device, false) {}
  // A pool that counts like any other but has no memory: touching the bytes of its blocks ends the program with a
  // segmentation fault.
  static Pool counted(Device device) { return Pool(device, true); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool();

  // A block with one reference; contents are undefined. Throws Error(device) naming the biggest holders when memory
  // runs out.
  Block* take(int64_t bytes, Purpose purpose);
  void give_back(Block* block) noexcept;

  Device device() const { return device_; }
  const LiveBytes& live(Purpose purpose) const { return ledger_[size_t(purpose)]; }
  int64_t live_total() const;
  // Bytes that the pool has taken from the device: what is live, its rounding, and what came back for reuse.
  int64_t held() const { return held_; }
  // Memory allocated outside the pool on its behalf (shared windows) is entered by hand.
  void enter(Purpose purpose, int64_t bytes) noexcept;  // negative when the memory is freed

 private:
  Pool(Device device, bool counted) : device_(device), counted_(counted) {}
  Block* allocate(uint16_t size_class, int64_t bytes);
  void* allocate_apart(int64_t bytes) noexcept;
  void release(Block* block) noexcept;

  Device device_;
  bool counted_;
  int64_t held_ = 0;
  std::array<LiveBytes, kPurposes> ledger_{};
  std::vector<std::vector<Block*>> free_;
};

// Sole owner of a block, for code that works below tensors.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Pool& pool, int64_t bytes, Purpose purpose) : block_(pool.take(bytes, purpose)) {}
  Buffer(Buffer&& other) noexcept : block_(other.block_) { other.block_ = nullptr; }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~Buffer() {
    if (block_) block_->pool->give_back(block_);
  }
  void* data() const { return block_ ? block_->data : nullptr; }
  int64_t bytes() const { return block_ ? block_->bytes : 0; }
  View view(DType dtype, const Shape& shape) const { return {data(), dtype, block_->pool->device().kind, shape}; }

 private:
  Block* block_ = nullptr;
};

}  // namespace lockstep
