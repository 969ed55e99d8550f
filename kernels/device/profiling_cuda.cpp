// SPDX-License-Identifier: Apache-2.0
// Profilers listen by NVTX, which is header-only and looks for one when it is first called.
#include <cuda_profiler_api.h>
#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "kernels/device/profiling.h"

namespace lockstep {
namespace {

// NVTX replaces its functions when it is first called, while another thread may be calling them.
void make_ready() {
  static const bool ready = (nvtxInitialize(nullptr), true);
  static_cast<void>(ready);
}

}  // namespace

ProfilerRange::ProfilerRange(const char* name) {
  make_ready();
  nvtxRangePushA(name);
}

ProfilerRange::ProfilerRange(const char* name, int64_t number) {
  make_ready();
  // Whether anybody listens shows only afterwards, so the text of every step and bucket is made, at little cost.
  constexpr size_t kLongestName = 40, kLongestNumber = 20;
  char text[kLongestName + 1 + kLongestNumber + 1];
  const size_t length = std::min(std::strlen(name), kLongestName);
  std::memcpy(text, name, length);
  text[length] = ' ';
  *std::to_chars(text + length + 1, text + sizeof text - 1, number).ptr = '\0';
  nvtxRangePushA(text);
}

ProfilerRange::~ProfilerRange() { nvtxRangePop(); }

void start_profiler() noexcept { static_cast<void>(cudaProfilerStart()); }
void stop_profiler() noexcept { static_cast<void>(cudaProfilerStop()); }

}  // namespace lockstep
