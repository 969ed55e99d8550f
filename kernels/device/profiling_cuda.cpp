// SPDX-License-Identifier: Apache-2.0
// Profilers listen by NVTX, which is header-only and looks for one when it is first called.
#include <cuda_profiler_api.h>
#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <cinttypes>
#include <cstdio>

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
  char text[64];
  std::snprintf(text, sizeof text, "%s %" PRId64, name, number);
  nvtxRangePushA(text);
}

ProfilerRange::~ProfilerRange() { nvtxRangePop(); }

void start_profiler() noexcept { static_cast<void>(cudaProfilerStart()); }
void stop_profiler() noexcept { static_cast<void>(cudaProfilerStop()); }

}  // namespace lockstep
