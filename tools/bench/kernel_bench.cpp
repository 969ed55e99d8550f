// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/kernel_bench.h"

#include <algorithm>
#include <array>
#include <functional>
#include <memory>

#include "kernels/device/check.h"
#include "kernels/launch.h"
#include "kernels/operand.h"
#include "kernels/pointwise.h"
#include "optimizers/optimizer.h"
#include "runtime/variables/precision.h"
#include "tools/bench/memory_roof.h"

namespace lockstep {

namespace {

// An array of f32 on the stream's device, filled (and so first touched) by the stream's threads.
class Array {
 public:
  Array(Stream& stream, Pool& pool, int64_t n, float low, float high)
      : buffer_(pool, n * size_of(DType::f32), Purpose::scratch), view_(buffer_.view(DType::f32, Shape{n})) {
    launch(stream, FillSpread{view_, low, high});
  }
  const View& view() const { return view_; }

 private:
  Buffer buffer_;
  View view_;
};

template <class Kernel>
std::function<void()> timed(Stream& stream, Kernel kernel) {
  return [&stream, kernel] {
    launch(stream, kernel);
    stream.synchronize();
  };
}

std::string where(const Stream& stream) {
  if (stream.device().kind != DeviceKind::cpu) return to_string(stream.device());
  return str(stream.threads(), stream.threads() == 1 ? " thread" : " threads");
}

double gigabytes_per_second(int64_t bytes, double seconds) { return double(bytes) / seconds * 1e-9; }

// An optimizer's parameters, gradients and slots, flat or cut into tensors that are updated one by one.
class UpdateBench {
 public:
  UpdateBench(Stream& stream, Pool& pool, const Optimizer& optimizer, int64_t n, const Precision& precision = {})
      : stream_(stream),
        optimizer_(optimizer),
        precision_(precision),
        param_(stream, pool, n, -1, 1),
        narrow_(pool, is_narrow(precision.weights) ? n * size_of(precision.weights) : 1, Purpose::scratch),
        grad_(stream, pool, n, -1, 1) {
    if (is_narrow(precision.weights)) launch(stream, Copy{narrow_view(), param_.view()});
    for (size_t i = 0; i < optimizer.slots().size(); ++i) slots_.emplace_back(stream, pool, n, 0.0f, 1.0f);
    for (const ScalarState& scalar : optimizer.scalars()) scalars_.push_back(scalar.initial);
    constants_.resize(size_t(optimizer.constants_bytes() / 8 + 1));
  }

  // Updates tensors one by one. `borders` go from 0 to the number of elements.
  void step(const std::vector<int64_t>& borders) {
    const StepState state = begin();
    for (size_t t = 0; t + 1 < borders.size(); ++t) update(state, borders[t], borders[t + 1], {});
    stream_.synchronize();
  }

  // Updates all at once, as they lie in a run's arena: each has its own gradient factor, as when clipped by its norm.
  void step(const GranuleMap& granules) {
    update(begin(), 0, param_.view().size(), granules);
    stream_.synchronize();
  }

 private:
  // Begins a step long after the first, when corrections of the first steps are gone.
  StepState begin() {
    iteration_ = 999;
    rate_ = optimizer_.learning_rate();
    const StepState state{.iteration = &iteration_,
                          .learning_rate = &rate_,
                          .scalars = scalars_.data(),
                          .decision = &decision_,
                          .constants = constants_.data()};
    optimizer_.prepare(stream_, state, {}, nullptr);
    return state;
  }

  void update(const StepState& state, int64_t begin, int64_t end, const GranuleMap& granules) {
    views_.clear();
    for (const Array& slot : slots_) views_.push_back(slice(slot.view(), begin, end));
    optimizer_.update(stream_, state,
                      {.param = slice(precision_.stochastic_rounding ? narrow_view() : param_.view(), begin, end),
                       .grad = slice(grad_.view(), begin, end),
                       .slots = views_,
                       .working_copy = precision_.has_masters() ? slice(narrow_view(), begin, end) : View{},
                       .granules = granules});
  }
  View narrow_view() const { return narrow_.view(precision_.weights, param_.view().shape); }

  Stream& stream_;
  const Optimizer& optimizer_;
  Precision precision_;
  Array param_;
  Buffer narrow_;  // the parameter, or a copy of it, in a narrow dtype
  Array grad_;
  std::vector<Array> slots_;
  std::vector<View> views_;
  int64_t iteration_ = 0;
  double rate_ = 0;
  std::vector<double> scalars_, constants_;
  StepScalars decision_;
};

// Each tensor is larger than the one before, so that few begin on a multiple of anything.
std::vector<int64_t> uneven_borders(int64_t n, int64_t tensors) {
  std::vector<int64_t> borders;
  const double whole = double(tensors) * double(tensors + 1);
  for (int64_t t = 0; t < tensors; ++t) borders.push_back(int64_t(double(n) * double(t) * double(t + 1) / whole));
  borders.push_back(n);
  return borders;
}

BenchmarkRow bench_optimizer(Stream& stream, Pool& pool, const Optimizer& optimizer,
                             const MemoryBenchOptions& options) {
  const int64_t n = options.elements, tensors = std::min(n, options.tensors);
  const Array roof(stream, pool, n, -1, 1);
  UpdateBench bench(stream, pool, optimizer, n);
  const std::vector<int64_t> borders = uneven_borders(n, tensors);
  const std::array<std::function<void()>, 2> calls = {timed(stream, AddInPlace{roof.view(), 1e-6f}),
                                                      [&] { bench.step(borders); }};
  const InterleavedTimes times = time_interleaved(calls, options.timing);

  const int64_t roof_bytes = 8 * n, bytes = optimizer.bytes_per_element() * n;
  const double share = times.ratio(0, 1) * double(bytes) / double(roof_bytes);
  return {.name = str("optimizer/", optimizer.name()),
          .value = gigabytes_per_second(bytes, times.seconds(1)),
          .unit = "GB/s",
          .roof = gigabytes_per_second(roof_bytes, times.seconds(0)),
          .share_of_roof = share,
          .bytes = bytes,
          .note = str(n, " parameters of ", optimizer.bytes_per_element(), " bytes in ", tensors, " tensors, ",
                      where(stream), ", roof: add in place")};
}

// Times one tensor of parameters that are kept in a narrow dtype.
BenchmarkRow bench_narrow(Stream& stream, Pool& pool, const Optimizer& optimizer, const Precision& precision,
                          const MemoryBenchOptions& options) {
  const int64_t n = options.elements;
  const Array roof(stream, pool, n, -1, 1);
  UpdateBench bench(stream, pool, optimizer, n, precision);
  const std::vector<uint32_t> variable_of(size_t((n + kGranule - 1) / kGranule));
  const float factor = 1;
  const int64_t number = 0;
  const GranuleMap granules{.variable_of = variable_of.data(), .factors = &factor, .numbers = &number};
  const std::array<std::function<void()>, 2> calls = {timed(stream, AddInPlace{roof.view(), 1e-6f}),
                                                      [&] { bench.step(granules); }};
  const InterleavedTimes times = time_interleaved(calls, options.timing);
  const int64_t roof_bytes = 8 * n, bytes = update_bytes(optimizer, precision) * n;
  return {.name = str("optimizer/", optimizer.name(), "/", precision.name),
          .value = gigabytes_per_second(bytes, times.seconds(1)),
          .unit = "GB/s",
          .roof = gigabytes_per_second(roof_bytes, times.seconds(0)),
          .share_of_roof = times.ratio(0, 1) * double(bytes) / double(roof_bytes),
          .bytes = bytes,
          .note = str(n, " parameters of ", bytes / n, " bytes, ", where(stream), ", roof: add in place")};
}

constexpr int64_t kElements = 64;  // of a small tensor

int64_t small_tensors(const MemoryBenchOptions& options) {
  return std::clamp<int64_t>(options.elements / kElements, 1, 10'000);
}

std::string small_tensors_name(int64_t tensors) { return str("optimizer/adam/", tensors, "x", kElements); }

BenchmarkRow bench_small_tensors(Stream& stream, Pool& pool, int64_t tensors) {
  const auto adam = make_optimizer("adam");
  UpdateBench bench(stream, pool, *adam, tensors * kElements);
  std::vector<uint32_t> variable_of;
  for (int64_t at = 0; at < tensors * kElements; at += kGranule) variable_of.push_back(uint32_t(at / kElements));
  const std::vector<float> factors(size_t(tensors), 0.5f);
  const GranuleMap granules{.variable_of = variable_of.data(), .factors = factors.data()};
  const std::array<std::function<void()>, 2> calls = {[&] { bench.step(GranuleMap{}); }, [&] { bench.step(granules); }};
  const InterleavedTimes times = time_interleaved(calls, {.rounds = 25, .seconds_per_sample = 0});
  return {
      .name = small_tensors_name(tensors),
      .value = times.seconds(1) * 1e6,
      .unit = "us",
      .roof = times.seconds(0) * 1e6,
      .share_of_roof = times.ratio(0, 1),
      .bytes = adam->bytes_per_element() * tensors * kElements,
      .note = str("a factor for each tensor's gradient, ", where(stream), ", roof: one tensor of as many elements")};
}

}  // namespace

std::vector<BenchmarkRow> bench_memory(Stream& stream, Pool& pool, const MemoryBenchOptions& options) {
  const std::array names = {"memory/add_in_place", "memory/copy"};
  if (std::ranges::none_of(names, [&](const char* name) { return options.rows.wants(name); })) return {};
  const int64_t n = options.elements, bytes = 8 * n;
  const Array a(stream, pool, n, -1, 1), b(stream, pool, n, -1, 1);
  const std::array<std::function<void()>, 2> calls = {timed(stream, AddInPlace{a.view(), 1e-6f}),
                                                      timed(stream, CopyArray{b.view(), a.view()})};
  const InterleavedTimes times = time_interleaved(calls, options.timing);
  std::vector<BenchmarkRow> rows;
  for (size_t i = 0; i < names.size(); ++i) {
    if (!options.rows.wants(names[i])) continue;
    rows.push_back({.name = names[i],
                    .value = gigabytes_per_second(bytes, times.seconds(i)),
                    .unit = "GB/s",
                    .bytes = bytes,
                    .note = str(n, " f32 read and written, ", where(stream))});
  }
  return rows;
}

std::vector<BenchmarkRow> bench_optimizers(Stream& stream, Pool& pool, const MemoryBenchOptions& options) {
  check(stream.device().kind == DeviceKind::cpu, ErrorCode::usage,
        "the optimizers' benchmark runs on the CPU; choose --device cpu");
  std::vector<BenchmarkRow> rows;
  for (const std::string_view name : optimizer_names())
    if (const auto optimizer = make_optimizer(name);
        !optimizer->updates_by_tensor() && options.rows.wants(str("optimizer/", name)))
      rows.push_back(bench_optimizer(stream, pool, *optimizer, options));
  const auto adam = make_optimizer("adam");
  for (const Precision& precision : kPrecisions)
    if (is_narrow(precision.weights) && options.rows.wants(str("optimizer/adam/", precision.name)))
      rows.push_back(bench_narrow(stream, pool, *adam, precision, options));
  const int64_t tensors = small_tensors(options);
  if (options.rows.wants(small_tensors_name(tensors))) rows.push_back(bench_small_tensors(stream, pool, tensors));
  return rows;
}

}  // namespace lockstep
