// SPDX-License-Identifier: Apache-2.0
// What profilers are told: names for what the host queues, and which part of a run to record. Without a profiler that
// listens, and in builds without CUDA's header of them (NVTX), none of it does anything.
#pragma once

#include <cstdint>

namespace lockstep {

// A named range of the calling thread, for as long as this lives. Ranges nest. A profiler shows the kernels that were
// queued in a range under its name; those of a recorded graph were queued when it was recorded.
class ProfilerRange {
 public:
  explicit ProfilerRange(const char* name);
  ProfilerRange(const char* name, int64_t number);  // "bucket 3"
  ProfilerRange(const ProfilerRange&) = delete;
  ProfilerRange& operator=(const ProfilerRange&) = delete;
  ~ProfilerRange();
};

// Begins and ends what a profiler records that was told to wait for that (nsys --capture-range=cudaProfilerApi,
// ncu --profile-from-start off).
void start_profiler() noexcept;
void stop_profiler() noexcept;

}  // namespace lockstep
