// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/memory.h"

#include <algorithm>
#include <bit>
#include <new>

#include "kernels/device/memory_backend.h"

namespace lockstep {
namespace {

// Each power of two has four classes, from 64 bytes on, so at most a quarter of a block is rounding.
constexpr int kClassesPerDoubling = 4, kSmallestLog2 = 6;

uint16_t class_of(int64_t bytes) {
  const uint64_t n = uint64_t(std::max<int64_t>(bytes, 1 << kSmallestLog2)) - 1;
  const int log2 = std::bit_width(n) - 1;  // 2^log2 <= n
  if (log2 < kSmallestLog2) return 0;
  const int quarter = int((n >> (log2 - 2)) & 3);
  return uint16_t((log2 - kSmallestLog2) * kClassesPerDoubling + quarter + 1);
}

int64_t bytes_of(uint16_t size_class) {
  if (size_class == 0) return 1 << kSmallestLog2;
  const int log2 = (size_class - 1) / kClassesPerDoubling + kSmallestLog2;
  const int quarter = (size_class - 1) % kClassesPerDoubling;
  return (int64_t(1) << log2) + (int64_t(quarter + 1) << (log2 - 2));
}

}  // namespace

std::string_view to_string(Purpose purpose) {
  switch (purpose) {
    case Purpose::parameters:
      return "parameters";
    case Purpose::gradients:
      return "gradients";
    case Purpose::slots:
      return "slots";
    case Purpose::scalars:
      return "scalars";
    case Purpose::activations:
      return "activations";
    case Purpose::data:
      return "data";
    case Purpose::scratch:
      return "scratch";
  }
  return "?";
}

Pool::~Pool() {
  for (auto& blocks : free_)
    for (Block* block : blocks) release(block);
}

// Allocates memory that does not lie behind its block.
void* Pool::allocate_apart(int64_t bytes) noexcept {
  return counted_ ? address_space::reserve(bytes) : cuda_backend::allocate(device_.index, bytes);
}

void Pool::release(Block* block) noexcept {
  if (counted_) {
    address_space::release(block->data, bytes_of(block->size_class));
  } else if (device_.kind == DeviceKind::cuda) {
    cuda_backend::release(block->data);
  }
  cpu_backend::release(block);
}

Block* Pool::take(int64_t bytes, Purpose purpose) {
  const uint16_t size_class = class_of(bytes);
  if (size_class >= free_.size()) free_.resize(size_t(size_class) + 1);
  auto& blocks = free_[size_class];
  Block* block;
  if (blocks.empty()) {
    block = allocate(size_class, bytes);
  } else {
    block = blocks.back();
    blocks.pop_back();
  }
  block->bytes = bytes;
  block->purpose = purpose;
  block->references = 1;
  enter(purpose, bytes);
  return block;
}

void Pool::give_back(Block* block) noexcept {
  enter(block->purpose, -block->bytes);
  free_[block->size_class].push_back(block);
}

void Pool::enter(Purpose purpose, int64_t bytes) noexcept {
  LiveBytes& live = ledger_[size_t(purpose)];
  live.now += bytes;
  live.peak = std::max(live.peak, live.now);
}

int64_t Pool::live_total() const {
  int64_t total = 0;
  for (const LiveBytes& live : ledger_) total += live.now;
  return total;
}

Block* Pool::allocate(uint16_t size_class, int64_t bytes) {
  const bool behind_block = device_.kind == DeviceKind::cpu && !counted_;
  const int64_t payload = bytes_of(size_class);
  void* memory = cpu_backend::allocate(int64_t(sizeof(Block)) + (behind_block ? payload : 0));
  void* data = nullptr;
  if (memory) data = behind_block ? static_cast<char*>(memory) + sizeof(Block) : allocate_apart(payload);
  check(data != nullptr, ErrorCode::device, [&] {
    cpu_backend::release(memory);
    std::string holders;
    for (size_t p = 0; p < kPurposes; ++p)
      if (ledger_[p].now > 0) holders += str(holders.empty() ? "" : ", ", to_string(Purpose(p)), " ", ledger_[p].now);
    return str("out of memory on ", to_string(device_), ": asked for ", bytes,
               " bytes; live bytes by purpose: ", holders.empty() ? "none" : holders,
               "; use a smaller batch or model, or more ranks");
  });
  held_ += payload;
  return new (memory) Block{this, bytes, 1, size_class, Purpose::scratch, data};
}

}  // namespace lockstep
