// SPDX-License-Identifier: Apache-2.0
// A recorded sequence of device work that is launched again and again at the price of one launch.
#pragma once

#include <utility>

#include "kernels/device/device.h"

namespace lockstep {

// Owns the vendor's graph; move-only. Work keeps the addresses and arguments that it was recorded with.
class Graph {
 public:
  // Records what `work` queues on `stream`, and on streams that wait for it and that it waits for in the end; nothing
  // runs. `work` may neither wait on the host nor allocate from the device. Error(device) when it does, or on the CPU.
  template <class Work>
  static Graph record(Stream& stream, const Work& work) {
    begin(stream);
    try {
      work();
    } catch (...) {
      abandon(stream);
      throw;
    }
    return Graph(end(stream));
  }
  Graph(Graph&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Graph& operator=(Graph&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Graph();

  void launch(Stream& stream);

 private:
  explicit Graph(void* handle) : handle_(handle) {}
  static void begin(Stream& stream);
  static void* end(Stream& stream);
  static void abandon(Stream& stream) noexcept;

  void* handle_ = nullptr;
};

}  // namespace lockstep
