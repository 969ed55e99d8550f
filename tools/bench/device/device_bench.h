// SPDX-License-Identifier: Apache-2.0
// Benchmark rows of kernels on a GPU. Each row is timed in turn with a copy that moves as many bytes, by a kernel of
// ours and by the driver: the faster one is its roof. Matrix products are timed with one large product.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/bench/device/device_timing.h"

namespace lockstep {

struct DeviceBenchOptions {
  int device = 0;
  // The most f32 elements in an array, which should be several times as large as the cache.
  int64_t elements = int64_t(1) << 26;
  int64_t sweep_elements = int64_t(1) << 28;  // the largest array of fused Adam's sweep over sizes
  DeviceTimingOptions timing = {};
  RowFilter rows = {};
};

class DeviceBench {
 public:
  // Error(device) where there is no such GPU or no memory for arrays of `elements`.
  explicit DeviceBench(const DeviceBenchOptions& options);

  Stream& stream() { return stream_; }
  int64_t elements() const { return options_.elements; }
  const RowFilter& rows() const { return options_.rows; }

  // GB/s of `bytes` beside those of the copy, or for flops > 0 GFLOP/s beside those of the product. The note begins
  // with what the row is about and ends with the conditions: the GPU, versions, cold or warm. Where there is no memory
  // for copies of as many bytes, the roof copies what there is, and the note says how much.
  BenchmarkRow row(const std::string& name, const DeviceCall& call, int64_t bytes, int64_t flops = 0,
                   const std::string& about = {});

  // Times copy, the driver's copy and addition in place; then the shortest kernel, which is the least a row can take.
  std::vector<BenchmarkRow> memory();
  // Times every optimizer of the factory; decision, constants and update run as a training step launches them. Then all
  // that a step does with Adam from the sums of gradients on, which reads the gradients once more, for their squares.
  std::vector<BenchmarkRow> optimizers();
  // Times fused Adam over one array of 1 M elements, 4 M, ... as far as the memory goes.
  std::vector<BenchmarkRow> adam_sizes();
  // Times fused Adam over many small tensors, in microseconds beside one tensor of as many elements.
  std::vector<BenchmarkRow> adam_tensors();

 private:
  BenchmarkRow many_tensors(int64_t tensors, int64_t elements);
  BenchmarkRow product_row(const std::string& name, const DeviceCall& call, int64_t bytes, int64_t flops,
                           const std::string& about);
  BenchmarkRow copy_row(const std::string& name, const DeviceCall& call, int64_t bytes, const std::string& about);
  bool wants(std::string_view name) const { return options_.rows.wants(name); }
  std::string note(const std::string& about) const;
  std::string timing_note(const InterleavedTimes& times, size_t call, const std::string& about) const;
  // Makes room for copies of so many elements, as far as there is memory. Returns how many it is.
  int64_t make_room(int64_t elements);
  DeviceCall copy_call(int64_t elements);
  DeviceCall driver_copy_call(int64_t elements);
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
