// SPDX-License-Identifier: Apache-2.0
// Timing by the GPU's own clock, which leaves out the host's time to launch. The second-level cache holds nothing of
// the operands unless asked otherwise.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "kernels/device/device.h"
#include "kernels/device/memory.h"
#include "tools/bench/benchmark.h"

namespace lockstep {

// The GPU and the versions of CUDA, for the notes of rows; says so first where nothing was measured on a GPU.
std::string describe_gpu(int index);

struct DeviceCall {
  std::function<void()> work;  // queued on the stream; never waits, and allocates nothing from the fourth time on
  std::function<void()> before = {};  // queued on the stream ahead of each sample and not timed; may be empty
};

// Cold: before each sample, which is one call, other memory passes through the cache. That is read and not written,
// because a sample would then pay for writing it back. Warm: a sample is a batch of calls and follows another one like
// it.
enum class Cache : uint8_t { cold, warm };

struct DeviceTimingOptions {
  Cache cache = Cache::cold;
  int warmup_rounds = 1;
  int rounds = 25;
  // After three rounds, none begins when this time is over: for emulated devices.
  double most_seconds = 2;
};

class DeviceTimer {
 public:
  // `stream` must outlive the timer. Error(usage) on the CPU.
  DeviceTimer(Stream& stream, const DeviceTimingOptions& options);

  // Seconds of one call of each alternative, in turn, round by round.
  InterleavedTimes time(std::span<const DeviceCall> alternatives);

 private:
  class Recorded;
  double sample(Recorded& recorded);
  void read_through_cache();

  Stream& stream_;
  DeviceTimingOptions options_;
  Pool pool_;
  Buffer other_;  // twice as large as the cache
  Buffer sum_;
  Event begin_, end_;
};

}  // namespace lockstep
