// SPDX-License-Identifier: Apache-2.0
// Measures how long the phases of a step took, on the clock of the device that does the work.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "kernels/device/device.h"

namespace lockstep {

// The ends of the phases, in order.
enum class StepMark : uint8_t { begun, computed, reduced, updated, done };
inline constexpr size_t kStepMarks = 5;

class StepClock {
 public:
  explicit StepClock(Device device) {
    if (device.kind == DeviceKind::cpu) return;
    for (size_t i = 0; i < kStepMarks; ++i) events_.emplace_back(device, Event::Timing::on);
  }

  void mark(StepMark mark, Stream& stream) {
    if (events_.empty())
      times_[size_t(mark)] = std::chrono::steady_clock::now();
    else
      events_[size_t(mark)].record(stream);
  }
  // The time between two marks of the last step; a GPU must have reached both.
  double seconds(StepMark from, StepMark to) const {
    if (!events_.empty()) return events_[size_t(to)].seconds_since(events_[size_t(from)]);
    return std::chrono::duration<double>(times_[size_t(to)] - times_[size_t(from)]).count();
  }

 private:
  std::array<std::chrono::steady_clock::time_point, kStepMarks> times_{};
  std::vector<Event> events_;  // GPUs only
};

}  // namespace lockstep
