// SPDX-License-Identifier: Apache-2.0
// Bytes between host and device: pinned host memory, and copies in stream order.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/device/device.h"
#include "kernels/device/view.h"

namespace lockstep {

// Memory of the host that a device copies from and to while the host goes on; for a CPU device, ordinary memory.
// Move-only; whoever frees or refills it makes sure that no queued copy still uses it.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  // Throws Error(device) when memory runs out.
  PinnedBuffer(Device device, int64_t bytes);
  PinnedBuffer(PinnedBuffer&& other) noexcept { *this = std::move(other); }
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~PinnedBuffer();

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  View view(DType dtype, const Shape& shape) const { return {data_, dtype, DeviceKind::cpu, shape}; }

 private:
  Device device_;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Copies `from` to `to`, of equal size in bytes, in stream order; each lies on the host or on the stream's device.
// Where a GPU is involved this returns before the copy is done: keep host memory until the stream is there. The driver
// first copies ordinary (not pinned) host memory, which takes the host's time.
void copy(Stream& stream, const View& to, const ConstView& from);
void copy(Stream& stream, void* to, const void* from, int64_t bytes);
// Sets all bytes to zero, in stream order.
void clear(Stream& stream, const View& view);

}  // namespace lockstep
