// SPDX-License-Identifier: Apache-2.0
// Benchmark rows of kernels on a GPU. Each row is timed in turn with a copy of an array, whose bandwidth is its roof;
// matrix products are timed with one large product.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/bench/device/device_timing.h"

namespace lockstep {

struct DeviceBenchOptions {
  int device = 0;
  // The most f32 elements in an array. The copy's arrays should be several times as large as the cache.
  int64_t elements = int64_t(1) << 26;
  int64_t sweep_elements = int64_t(1) << 28;  // the largest array of fused Adam's sweep over sizes
  DeviceTimingOptions timing = {};
};

class DeviceBench {
 public:
  // Error(device) where there is no such GPU or no memory for the copy.
  explicit DeviceBench(const DeviceBenchOptions& options);

  Stream& stream() { return stream_; }
  int64_t elements() const { return options_.elements; }

  // GB/s of `bytes` beside those of the copy, or for flops > 0 GFLOP/s beside those of the product. The note begins
  // with what the row is about and ends with the conditions: the GPU, versions, cold or warm.
  BenchmarkRow row(const std::string& name, const DeviceCall& call, int64_t bytes, int64_t flops = 0,
                   const std::string& about = {});

  // Times copy, the driver's copy and addition in place; then the shortest kernel, which is the least a row can take.
  std::vector<BenchmarkRow> memory();
  // Times every optimizer of the factory; decision, constants and update run as a training step launches them.
  std::vector<BenchmarkRow> optimizers();
  // Times fused Adam over one array of 1 M elements, 4 M, ... as far as the memory goes.
  std::vector<BenchmarkRow> adam_sizes();
  // Times fused Adam over many small tensors, in microseconds beside one tensor of as many elements.
  std::vector<BenchmarkRow> adam_tensors();

 private:
  BenchmarkRow many_tensors(int64_t tensors, int64_t elements);
  std::string note(const std::string& about) const;
  DeviceCall copy_call();
  DeviceCall product_call();

  DeviceBenchOptions options_;
  Stream stream_;
  Pool pool_;
  DeviceTimer timer_;
  Buffer from_, to_;
  int64_t side_;  // side of the product's matrices
  Buffer a_, b_, product_;
  std::string conditions_;
};

}  // namespace lockstep
