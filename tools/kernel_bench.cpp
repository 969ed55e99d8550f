// SPDX-License-Identifier: Apache-2.0
#include "tools/kernel_bench.h"

#include <array>
#include <functional>
#include <memory>

#include "kernels/device/check.h"
#include "kernels/launch.h"
#include "optimizers/optimizer.h"
#include "tools/memory_roof.h"

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

BenchmarkRow bench_optimizer(Stream& stream, Pool& pool, const Optimizer& optimizer,
                             const MemoryBenchOptions& options) {
  const int64_t n = options.elements;
  const Array roof(stream, pool, n, -1, 1), param(stream, pool, n, -1, 1), grad(stream, pool, n, -1, 1);
  std::vector<Array> slots;
  std::vector<View> views;
  for (size_t i = 0; i < optimizer.slots().size(); ++i)
    views.push_back(slots.emplace_back(stream, pool, n, 0.0f, 1.0f).view());
  // The scalars must lie where the kernel reads them.
  const StepScalars scalars;
  std::vector<double> state;
  for (const ScalarState& scalar : optimizer.scalars()) state.push_back(scalar.initial);
  optimizer.advance(1, optimizer.learning_rate(), state);
  const auto update = [&] {
    optimizer.update(stream, 1000, optimizer.learning_rate(), &scalars, param.view(), grad.view(), views, state);
    stream.synchronize();
  };
  const std::array<std::function<void()>, 2> calls = {timed(stream, AddInPlace{roof.view(), 1e-6f}), update};
  const InterleavedTimes times = time_interleaved(calls, options.timing);

  const int64_t roof_bytes = 8 * n, bytes = optimizer.bytes_per_element() * n;
  const double share = times.ratio(0, 1) * double(bytes) / double(roof_bytes);
  return {.name = str("optimizer/", optimizer.name()),
          .value = gigabytes_per_second(bytes, times.seconds(1)),
          .unit = "GB/s",
          .roof = gigabytes_per_second(roof_bytes, times.seconds(0)),
          .share_of_roof = share,
          .bytes = bytes,
          .note = str(n, " parameters of ", optimizer.bytes_per_element(), " bytes, ", where(stream),
                      ", roof: add in place")};
}

}  // namespace

std::vector<BenchmarkRow> bench_memory(Stream& stream, Pool& pool, const MemoryBenchOptions& options) {
  const int64_t n = options.elements, bytes = 8 * n;
  const Array a(stream, pool, n, -1, 1), b(stream, pool, n, -1, 1);
  const std::array<std::function<void()>, 2> calls = {timed(stream, AddInPlace{a.view(), 1e-6f}),
                                                      timed(stream, CopyArray{b.view(), a.view()})};
  const InterleavedTimes times = time_interleaved(calls, options.timing);
  const std::array names = {"memory/add_in_place", "memory/copy"};
  std::vector<BenchmarkRow> rows;
  for (size_t i = 0; i < names.size(); ++i) {
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
    if (const auto optimizer = make_optimizer(name); !optimizer->whole_tensors())
      rows.push_back(bench_optimizer(stream, pool, *optimizer, options));
  return rows;
}

}  // namespace lockstep
