// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/device/device_bench.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <optional>

#include "kernels/device/check.h"
#include "kernels/device/transfer.h"
#include "kernels/launch.h"
#include "kernels/matmul.h"
#include "kernels/operand.h"
#include "tools/bench/memory_roof.h"
#include "tools/bench/optimizer_arena.h"

namespace lockstep {
namespace {

constexpr int64_t kLargestSide = 4096;

Buffer filled(Stream& stream, Pool& pool, int64_t n) {
  Buffer buffer(pool, n * size_of(DType::f32), Purpose::scratch);
  launch(stream, FillSpread{buffer.view(DType::f32, Shape{n}), -1, 1});
  return buffer;
}

View view_of(const Buffer& buffer) { return buffer.view(DType::f32, Shape{buffer.bytes() / size_of(DType::f32)}); }

// Sizes as people write them: 64M, 4K, 1001.
std::string size_name(int64_t n) {
  if (n % (int64_t(1) << 20) == 0) return str(n >> 20, "M");
  if (n % (int64_t(1) << 10) == 0) return str(n >> 10, "K");
  return str(n);
}

}  // namespace

DeviceBench::DeviceBench(const DeviceBenchOptions& options)
    : options_(options),
      stream_(Stream::cuda(options.device)),
      pool_(stream_.device()),
      timer_(stream_, options.timing),
      from_(filled(stream_, pool_, options.elements)),
      to_(filled(stream_, pool_, options.elements)),
      side_(std::min(kLargestSide, int64_t(std::bit_floor(uint64_t(std::sqrt(double(options.elements))))))),
      a_(filled(stream_, pool_, side_ * side_)),
      b_(filled(stream_, pool_, side_ * side_)),
      product_(filled(stream_, pool_, side_ * side_)),
      conditions_(describe_gpu(options.device) + (options.timing.cache == Cache::cold ? ", cold" : ", warm")) {}

DeviceCall DeviceBench::copy_call() {
  return {[this] { launch(stream_, CopyArray{view_of(to_), view_of(from_)}); }};
}

DeviceCall DeviceBench::product_call() {
  const Shape square{side_, side_};
  return {[this, square] {
    launch(stream_, Matmul{.out = product_.view(DType::f32, square),
                           .a = a_.view(DType::f32, square),
                           .b = b_.view(DType::f32, square)});
  }};
}

std::string DeviceBench::note(const std::string& about) const {
  return str(about, about.empty() ? "" : "; ", conditions_);
}

BenchmarkRow DeviceBench::row(const std::string& name, const DeviceCall& call, int64_t bytes, int64_t flops,
                              const std::string& about) {
  const bool computes = flops > 0;
  const std::array<DeviceCall, 2> calls = {computes ? product_call() : copy_call(), call};
  const InterleavedTimes times = timer_.time(calls);
  const double roof_work = computes ? 2.0 * double(side_) * double(side_) * double(side_) : double(2 * from_.bytes());
  const double work = double(computes ? flops : bytes);
  const std::string roof = computes ? str("product of ", side_, " x ", side_, " x ", side_)
                                    : str("copy of ", size_name(options_.elements), " f32");
  return {.name = name,
          .value = work / times.seconds(1) * 1e-9,
          .unit = computes ? "GFLOP/s" : "GB/s",
          .roof = roof_work / times.seconds(0) * 1e-9,
          .share_of_roof = times.ratio(0, 1) * work / roof_work,
          .bytes = bytes,
          .flops = flops,
          .note = note(str(times.seconds(1) * 1e6, " us +- ", std::round(1000 * times.spread(1)) / 10, " %, ", about,
                           about.empty() ? "" : ", ", "roof: ", roof))};
}

std::vector<BenchmarkRow> DeviceBench::memory() {
  const int64_t bytes = 2 * from_.bytes();
  const std::array<DeviceCall, 4> calls = {copy_call(),
                                           {[this] { copy(stream_, view_of(to_), view_of(from_)); }},
                                           {[this] {
                                             launch(stream_, AddInPlace{view_of(to_), 1e-6f});
                                           }},
                                           {[this] {
                                             launch(stream_, AddInPlace{slice(view_of(to_), 0, 1), 1e-6f});
                                           }}};
  const InterleavedTimes times = timer_.time(calls);
  const std::array names = {"memory/copy", "memory/driver_copy", "memory/add_in_place"};
  std::vector<BenchmarkRow> rows;
  for (size_t i = 0; i < names.size(); ++i) {
    rows.push_back({.name = names[i],
                    .value = double(bytes) / times.seconds(i) * 1e-9,
                    .unit = "GB/s",
                    .bytes = bytes,
                    .note = note(str(size_name(options_.elements), " f32 read and written"))});
  }
  rows.push_back({.name = "timing/shortest_kernel",
                  .value = times.seconds(3) * 1e6,
                  .unit = "us",
                  .bytes = 2 * size_of(DType::f32),
                  .note = note("one f32 read and written: the least that any row can take")});
  return rows;
}

std::vector<BenchmarkRow> DeviceBench::optimizers() {
  std::vector<BenchmarkRow> rows;
  for (const std::string_view name : optimizer_names()) {
    const auto optimizer = make_optimizer(name);
    if (optimizer->updates_by_tensor()) continue;
    OptimizerArena arena(*optimizer, {.tensors = 1, .elements = options_.elements}, stream_);
    rows.push_back(row(str("optimizer/", name), arena.step(), optimizer->bytes_per_element() * options_.elements, 0,
                       str(size_name(options_.elements), " parameters of ", optimizer->bytes_per_element(), " bytes")));
  }
  const auto adam = make_optimizer("adam");
  const int64_t n = options_.elements / kGranule * kGranule;
  for (const Precision& precision : kPrecisions) {
    if (!is_narrow(precision.weights) || n == 0) continue;
    OptimizerArena arena(*adam, {.tensors = 1, .elements = n}, stream_, precision);
    const int64_t bytes = update_bytes(*adam, precision);
    rows.push_back(row(str("optimizer/adam/", precision.name), arena.step(), bytes * n, 0,
                       str(size_name(n), " parameters of ", bytes, " bytes")));
  }
  return rows;
}

std::vector<BenchmarkRow> DeviceBench::adam_sizes() {
  constexpr int64_t kSmallest = int64_t(1) << 20;
  const auto adam = make_optimizer("adam");
  std::vector<BenchmarkRow> rows;
  for (int64_t n = std::min(kSmallest, options_.sweep_elements); n <= options_.sweep_elements; n *= 4) {
    std::optional<OptimizerArena> arena;
    try {
      arena.emplace(*adam, TensorSizes{.tensors = 1, .elements = n}, stream_);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::device || rows.empty()) throw;
      rows.back().note += str("; no memory for ", size_name(n));
      break;
    }
    rows.push_back(row("optimizer/adam/" + size_name(n), arena->step(), adam->bytes_per_element() * n, 0,
                       str(adam->bytes_per_element(), " bytes a parameter")));
  }
  return rows;
}

BenchmarkRow DeviceBench::many_tensors(int64_t tensors, int64_t elements) {
  const auto adam = make_optimizer("adam");
  const int64_t n = tensors * elements;
  OptimizerArena flat(*adam, {.tensors = 1, .elements = n}, stream_);
  OptimizerArena many(*adam, {.tensors = tensors, .elements = elements}, stream_);
  const std::array<DeviceCall, 2> calls = {flat.step(), many.step()};
  const InterleavedTimes times = timer_.time(calls);
  return {.name = str("optimizer/adam/", tensors, "x", size_name(elements)),
          .value = times.seconds(1) * 1e6,
          .unit = "us",
          .roof = times.seconds(0) * 1e6,
          .share_of_roof = times.ratio(0, 1),
          .bytes = adam->bytes_per_element() * n,
          .note = note(str("both launches, a factor for each tensor's gradient, +- ",
                           std::round(1000 * times.spread(1)) / 10, " %, roof: one tensor of ", size_name(n)))};
}

std::vector<BenchmarkRow> DeviceBench::adam_tensors() {
  std::vector<BenchmarkRow> rows;
  for (const auto& [tensors, elements] : {std::pair<int64_t, int64_t>{128, 1024}, {10'000, 64}})
    rows.push_back(many_tensors(std::clamp<int64_t>(options_.elements / elements, 1, tensors), elements));
  return rows;
}

}  // namespace lockstep
