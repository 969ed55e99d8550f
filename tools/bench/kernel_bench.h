// SPDX-License-Identifier: Apache-2.0
// Benchmark rows of kernels: memory roofs, and the optimizers against them.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/device/device.h"
#include "kernels/device/memory.h"
#include "tools/bench/benchmark.h"

namespace lockstep {

struct MemoryBenchOptions {
  int64_t elements = int64_t(1) << 26;  // number of f32; far beyond any cache
  int64_t tensors = 200;                // tensors of different sizes that optimizers update
  // Single calls: an update clears its gradient, so after hundreds of calls moments would be subnormal and slow.
  TimingOptions timing = {.warmup_rounds = 1, .rounds = 7, .seconds_per_sample = 0};
  RowFilter rows = {};
};

// Times in-place add and copy in GB/s, with the stream's threads.
std::vector<BenchmarkRow> bench_memory(Stream& stream, Pool& pool, const MemoryBenchOptions& options = {});

// Times every optimizer that updates elements one by one in GB/s; the roof is the in-place add, timed in turn with it.
// Then Adam over many small tensors, in microseconds beside one tensor of as many elements.
std::vector<BenchmarkRow> bench_optimizers(Stream& stream, Pool& pool, const MemoryBenchOptions& options = {});

}  // namespace lockstep
