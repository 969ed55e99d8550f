// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/ops/op_bench.h"

#include <algorithm>
#include <array>
#include <limits>

#include "kernels/device/transfer.h"
#include "kernels/matmul.h"
#include "tools/bench/memory_roof.h"
#include "tools/bench/ops/op_cases.h"

namespace lockstep {
namespace {

// Makes a row from a call that moves `bytes` and does `flops`, which is 0 where memory is what counts.
using Measure = std::function<BenchmarkRow(const std::string& name, const std::function<void()>& call, int64_t bytes,
                                           int64_t flops)>;

Tensor filled(Stream& stream, Pool& pool, const Shape& shape, float low, float high) {
  Tensor tensor(pool, DType::f32, shape);
  launch(stream, FillSpread{tensor, low, high});
  return tensor;
}

std::string row_of(const OpCase& op) { return "op/" + op.op + (op.note.empty() ? "" : " " + op.note); }
std::string forward_row(const OpCase& op) { return row_of(op) + "/forward"; }
std::string backward_row(const OpCase& op) { return row_of(op) + "/forward+backward"; }

// One op on its large inputs.
class OpBench {
 public:
  OpBench(const OpCase& op, Stream& stream)
      : op_(op), stream_(stream), pool_(stream.device()), context_(stream, pool_, &tape_) {
    make_inputs();
    forward();
    seed_ = filled(stream_, pool_, output_.shape(), -1, 1);
  }

  void forward() {
    tape_.clear();
    for (size_t i = 0; i < inputs_.size(); ++i)
      if (op_.large[i].differentiable) tape_.watch(inputs_[i], int32_t(i), gradients_[i]);
    context_.random().next_op = 0;
    output_ = op_.run(context_, inputs_);
  }

  void forward_and_backward() {
    forward();
    tape_.backward(context_, output_, seed_, nullptr);
  }

  std::vector<BenchmarkRow> rows(const Measure& measure, const RowFilter& wanted) {
    int64_t passed = ConstView(output_).bytes(), gradient_bytes = 0, products = 1;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      passed += ConstView(inputs_[i]).bytes();
      if (!op_.large[i].differentiable) continue;
      gradient_bytes += ConstView(gradients_[i]).bytes();
      // A product's gradients cost as much as its value for each matrix that has one.
      products += inputs_[i].shape().rank() > 1;
    }
    std::vector<BenchmarkRow> rows;
    if (const std::string name = forward_row(op_); wanted.wants(name))
      rows.push_back(measure(
          name, [this] { forward(); }, passed, op_.large_flops));
    if (const std::string name = backward_row(op_); wanted.wants(name))
      rows.push_back(measure(
          name, [this] { forward_and_backward(); }, 2 * passed + gradient_bytes, op_.large_flops * products));
    return rows;
  }

 private:
  void make_inputs() {
    inputs_ = random_inputs(stream_, pool_, op_.large, 1);
    for (const Tensor& input : inputs_) gradients_.push_back(filled(stream_, pool_, input.shape(), 0, 0));
    random_cells_ = set_sample_ids(context_, sample_ids_, op_.large[0].shape[0]);
  }

  const OpCase& op_;
  Stream& stream_;
  Pool pool_;
  Tape tape_;
  Context context_;
  std::vector<Tensor> inputs_, gradients_;
  std::vector<int64_t> sample_ids_;
  Tensor random_cells_, output_, seed_;
};

BenchmarkRow row_on_cpu(Stream& stream, const std::string& name, const std::function<void()>& call, int64_t bytes,
                        int64_t flops) {
  constexpr int64_t kSide = 1024;
  Pool pool(stream.device());
  std::function<void()> roof;
  int64_t roof_work;
  std::vector<Tensor> operands;
  if (flops > 0) {
    for (int i = 0; i < 3; ++i) operands.push_back(filled(stream, pool, {kSide, kSide}, 0, 0));
    roof = [&] { launch(stream, Matmul{.out = operands[0], .a = operands[1], .b = operands[2]}); };
    roof_work = 2 * kSide * kSide * kSide;
  } else {
    operands.push_back(filled(stream, pool, {std::max<int64_t>(1, bytes / 8)}, 0, 0));
    roof = [&] { launch(stream, AddInPlace{operands[0], 1e-6f}); };
    roof_work = bytes;
  }
  const std::array<std::function<void()>, 2> calls = {roof, call};
  const InterleavedTimes times = time_interleaved(calls);
  const int64_t work = flops > 0 ? flops : bytes;
  return {.name = name,
          .value = double(work) / times.seconds(1) * 1e-9,
          .unit = flops > 0 ? "GFLOP/s" : "GB/s",
          .roof = double(roof_work) / times.seconds(0) * 1e-9,
          .share_of_roof = times.ratio(0, 1) * double(work) / double(roof_work),
          .bytes = bytes,
          .flops = flops,
          .note = str(times.seconds(1) * 1e6, " us, ", stream.threads(), " threads")};
}

Shape with_rows(const Shape& shape, int64_t rows) {
  std::vector<int64_t> sizes(shape.sizes().begin(), shape.sizes().end());
  sizes[0] = rows;
  return Shape(sizes);
}

// Reduces the samples of the large inputs, to one at least, so that no input with samples is larger than `elements`.
// The inputs with samples are those with as many rows as the first one, which no weight has.
OpCase cut(OpCase op, int64_t elements) {
  const int64_t samples = op.large[0].shape[0];
  int64_t fewer = samples;
  const auto has_samples = [&](const OpInput& input) { return input.shape[0] == samples; };
  for (const OpInput& input : op.large)
    if (has_samples(input)) fewer = std::min(fewer, std::max<int64_t>(1, elements / (input.shape.size() / samples)));
  op.large_flops = op.large_flops / samples * fewer;
  for (OpInput& input : op.large)
    if (has_samples(input)) input.shape = with_rows(input.shape, fewer);
  return op;
}

std::vector<BenchmarkRow> bench_all(Stream& stream, int64_t elements, const RowFilter& wanted, const Measure& measure) {
  std::vector<BenchmarkRow> rows;
  for (const OpCase& op : op_cases()) {
    if (op.large.empty() || !(wanted.wants(forward_row(op)) || wanted.wants(backward_row(op)))) continue;
    const OpCase sized = cut(op, elements);
    for (BenchmarkRow& row : OpBench(sized, stream).rows(measure, wanted)) rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

std::vector<BenchmarkRow> bench_ops(int threads, const RowFilter& wanted) {
  Stream stream = Stream::cpu(threads);
  return bench_all(stream, std::numeric_limits<int64_t>::max(), wanted,
                   [&](const std::string& name, const std::function<void()>& call, int64_t bytes, int64_t flops) {
                     return row_on_cpu(stream, name, call, bytes, flops);
                   });
}

std::vector<BenchmarkRow> bench_ops(DeviceBench& bench) {
  return bench_all(bench.stream(), bench.elements(), bench.rows(),
                   [&](const std::string& name, const std::function<void()>& call, int64_t bytes, int64_t flops) {
                     return bench.row(name, {call}, bytes, flops);
                   });
}

}  // namespace lockstep
