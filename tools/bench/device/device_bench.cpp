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

std::string tensors_name(int64_t tensors, int64_t elements) {
  return str("optimizer/adam/", tensors, "x", size_name(elements));
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

int64_t DeviceBench::make_room(int64_t elements) {
  if (const int64_t there = from_.bytes() / size_of(DType::f32); there >= elements) return elements;
  try {
    Buffer from = filled(stream_, pool_, elements), to = filled(stream_, pool_, elements);
    stream_.synchronize();
    from_ = std::move(from);
    to_ = std::move(to);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::device) throw;
  }
  return std::min(elements, from_.bytes() / size_of(DType::f32));
}

DeviceCall DeviceBench::copy_call(int64_t elements) {
  return {[this, elements] {
    launch(stream_, CopyArray{slice(view_of(to_), 0, elements), slice(view_of(from_), 0, elements)});
  }};
}

DeviceCall DeviceBench::driver_copy_call(int64_t elements) {
  return {[this, elements] { copy(stream_, slice(view_of(to_), 0, elements), slice(view_of(from_), 0, elements)); }};
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

std::string DeviceBench::timing_note(const InterleavedTimes& times, size_t call, const std::string& about) const {
  return note(str(times.seconds(call) * 1e6, " us +- ", std::round(1000 * times.spread(call)) / 10, " %, ", about));
}

BenchmarkRow DeviceBench::row(const std::string& name, const DeviceCall& call, int64_t bytes, int64_t flops,
                              const std::string& about) {
  const std::string before = about.empty() ? "" : about + ", ";
  return flops > 0 ? product_row(name, call, bytes, flops, before) : copy_row(name, call, bytes, before);
}

BenchmarkRow DeviceBench::product_row(const std::string& name, const DeviceCall& call, int64_t bytes, int64_t flops,
                                      const std::string& about) {
  const std::array<DeviceCall, 2> calls = {product_call(), call};
  const InterleavedTimes times = timer_.time(calls);
  const double roof_work = 2.0 * double(side_) * double(side_) * double(side_);
  return {.name = name,
          .value = double(flops) / times.seconds(1) * 1e-9,
          .unit = "GFLOP/s",
          .roof = roof_work / times.seconds(0) * 1e-9,
          .share_of_roof = times.ratio(0, 1) * double(flops) / roof_work,
          .bytes = bytes,
          .flops = flops,
          .note = timing_note(times, 1, str(about, "roof: product of ", side_, " x ", side_, " x ", side_))};
}

BenchmarkRow DeviceBench::copy_row(const std::string& name, const DeviceCall& call, int64_t bytes,
                                   const std::string& about) {
  const int64_t elements = make_room(std::max<int64_t>(1, bytes / (2 * size_of(DType::f32))));
  const std::array<DeviceCall, 3> calls = {copy_call(elements), driver_copy_call(elements), call};
  const InterleavedTimes times = timer_.time(calls);
  const size_t roof = times.seconds(1) < times.seconds(0) ? 1 : 0;
  const double roof_bytes = double(2 * size_of(DType::f32) * elements);
  return {.name = name,
          .value = double(bytes) / times.seconds(2) * 1e-9,
          .unit = "GB/s",
          .roof = roof_bytes / times.seconds(roof) * 1e-9,
          .share_of_roof = times.ratio(roof, 2) * double(bytes) / roof_bytes,
          .bytes = bytes,
          .note = timing_note(
              times, 2,
              str(about, "roof: ", roof == 0 ? "our" : "the driver's", " copy of ", size_name(elements), " f32"))};
}

std::vector<BenchmarkRow> DeviceBench::memory() {
  const std::array names = {"memory/copy", "memory/driver_copy", "memory/add_in_place", "timing/shortest_kernel"};
  if (std::ranges::none_of(names, [this](const char* name) { return wants(name); })) return {};
  const int64_t n = options_.elements, bytes = 2 * n * size_of(DType::f32);
  const std::array<DeviceCall, 4> calls = {copy_call(n), driver_copy_call(n), DeviceCall{[this, n] {
                                             launch(stream_, AddInPlace{slice(view_of(to_), 0, n), 1e-6f});
                                           }},
                                           DeviceCall{[this] {
                                             launch(stream_, AddInPlace{slice(view_of(to_), 0, 1), 1e-6f});
                                           }}};
  const InterleavedTimes times = timer_.time(calls);
  std::vector<BenchmarkRow> rows;
  for (size_t i = 0; i < 3; ++i) {
    rows.push_back({.name = names[i],
                    .value = double(bytes) / times.seconds(i) * 1e-9,
                    .unit = "GB/s",
                    .bytes = bytes,
                    .note = note(str(size_name(n), " f32 read and written"))});
  }
  rows.push_back({.name = names[3],
                  .value = times.seconds(3) * 1e6,
                  .unit = "us",
                  .bytes = 2 * size_of(DType::f32),
                  .note = note("one f32 read and written: the least that any row can take")});
  std::erase_if(rows, [this](const BenchmarkRow& row) { return !wants(row.name); });
  return rows;
}

std::vector<BenchmarkRow> DeviceBench::optimizers() {
  std::vector<BenchmarkRow> rows;
  const auto add = [&](const std::string& name, const Optimizer& optimizer, int64_t n, int64_t bytes_each,
                       const Precision& precision, OptimizerArena::Phase phase, const std::string& about) {
    if (!wants(name) || n == 0) return;
    OptimizerArena arena(optimizer, {.tensors = 1, .elements = n}, stream_, precision);
    rows.push_back(row(name, arena.step(phase), bytes_each * n, 0,
                       str(size_name(n), " parameters of ", bytes_each, " bytes", about)));
  };
  constexpr auto kUpdate = OptimizerArena::Phase::update;
  for (const std::string_view name : optimizer_names()) {
    const auto optimizer = make_optimizer(name);
    if (optimizer->updates_by_tensor()) continue;
    add(str("optimizer/", name), *optimizer, options_.elements, optimizer->bytes_per_element(), {}, kUpdate, "");
  }
  const auto adam = make_optimizer("adam");
  for (const Precision& precision : kPrecisions)
    if (is_narrow(precision.weights))
      add(str("optimizer/adam/", precision.name), *adam, options_.elements / kGranule * kGranule,
          update_bytes(*adam, precision), precision, kUpdate, "");
  add("optimizer/adam/whole_phase", *adam, options_.elements, adam->bytes_per_element() + size_of(DType::f32), {},
      OptimizerArena::Phase::whole, ", squares of gradients, decision and update");
  return rows;
}

std::vector<BenchmarkRow> DeviceBench::adam_sizes() {
  constexpr int64_t kSmallest = int64_t(1) << 20;
  const auto adam = make_optimizer("adam");
  std::vector<BenchmarkRow> rows;
  for (int64_t n = std::min(kSmallest, options_.sweep_elements); n <= options_.sweep_elements; n *= 4) {
    const std::string name = "optimizer/adam/" + size_name(n);
    if (!wants(name)) continue;
    std::optional<OptimizerArena> arena;
    try {
      arena.emplace(*adam, TensorSizes{.tensors = 1, .elements = n}, stream_);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::device || rows.empty()) throw;
      rows.back().note += str("; no memory for ", size_name(n));
      break;
    }
    rows.push_back(row(name, arena->step(), adam->bytes_per_element() * n, 0,
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
  return {.name = tensors_name(tensors, elements),
          .value = times.seconds(1) * 1e6,
          .unit = "us",
          .roof = times.seconds(0) * 1e6,
          .share_of_roof = times.ratio(0, 1),
          .bytes = adam->bytes_per_element() * n,
          .note = timing_note(
              times, 1, str("both launches, a factor for each tensor's gradient, roof: one tensor of ", size_name(n)))};
}

std::vector<BenchmarkRow> DeviceBench::adam_tensors() {
  std::vector<BenchmarkRow> rows;
  for (const auto& [most, elements] : {std::pair<int64_t, int64_t>{128, 1024}, {10'000, 64}}) {
    const int64_t tensors = std::clamp<int64_t>(options_.elements / elements, 1, most);
    if (wants(tensors_name(tensors, elements))) rows.push_back(many_tensors(tensors, elements));
  }
  return rows;
}

}  // namespace lockstep
