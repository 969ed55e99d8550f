// SPDX-License-Identifier: Apache-2.0
#include "tools/op_bench.h"

#include <array>

#include "kernels/matmul.h"
#include "tools/memory_roof.h"
#include "tools/op_cases.h"

namespace lockstep {
namespace {

struct Bench {
  Stream stream;
  Pool pool;
  Tape tape;
  Context context;

  explicit Bench(int threads) : stream(Stream::cpu(threads)), pool(stream.device()), context(stream, pool, &tape) {}

  Tensor zeros(const Shape& shape) {
    Tensor tensor(pool, DType::f32, shape);
    std::fill_n(data<float>(View(tensor)), tensor.size(), 0.0f);
    return tensor;
  }
};

// One row: `call` beside its roof, counted in FLOP or, for 0 FLOP, in bytes.
BenchmarkRow row(const std::string& name, Bench& bench, const std::function<void()>& call, int64_t bytes,
                 int64_t flops) {
  constexpr int64_t kSide = 1024;
  std::function<void()> roof;
  int64_t roof_work;
  std::vector<Tensor> operands;
  if (flops > 0) {
    for (int i = 0; i < 3; ++i) operands.push_back(bench.zeros({kSide, kSide}));
    roof = [&] { launch(bench.stream, Matmul{.out = operands[0], .a = operands[1], .b = operands[2]}); };
    roof_work = 2 * kSide * kSide * kSide;
  } else {
    operands.push_back(bench.zeros({std::max<int64_t>(1, bytes / 8)}));
    roof = [&] { launch(bench.stream, AddInPlace{operands[0], 1e-6f}); };
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
          .note = str(times.seconds(1) * 1e6, " us, ", bench.stream.threads(), " threads")};
}

std::vector<BenchmarkRow> bench_op(const OpCase& op, int threads) {
  Bench bench(threads);
  std::vector<int64_t> ids;
  std::vector<Tensor> inputs = random_inputs(bench.stream, bench.pool, op.large, 1), gradients;
  const Tensor cells = set_sample_ids(bench.context, ids, op.large[0].shape[0]);
  int64_t input_bytes = 0, gradient_bytes = 0;
  int64_t differentiated = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    gradients.push_back(bench.zeros(inputs[i].shape()));
    input_bytes += ConstView(inputs[i]).bytes();
    if (!op.large[i].differentiable) continue;
    gradient_bytes += ConstView(gradients[i]).bytes();
    differentiated += inputs[i].shape().rank() > 1;
  }
  Tensor output;
  const auto forward = [&] {
    bench.tape.clear();
    for (size_t i = 0; i < inputs.size(); ++i)
      if (op.large[i].differentiable) bench.tape.watch(inputs[i], int32_t(i), gradients[i]);
    bench.context.random().next_op = 0;
    output = op.run(bench.context, inputs);
  };
  forward();
  const int64_t output_bytes = ConstView(output).bytes();
  Tensor seed = bench.zeros(output.shape());
  const auto both = [&] {
    forward();
    bench.tape.backward(bench.context, output, seed, nullptr);
  };
  const std::string name = op.op + (op.note.empty() ? "" : " " + op.note);
  // A product's gradients cost as much as its value for each matrix that has one.
  return {row("op/" + name + "/forward", bench, forward, input_bytes + output_bytes, op.large_flops),
          row("op/" + name + "/forward+backward", bench, both, 2 * (input_bytes + output_bytes) + gradient_bytes,
              op.large_flops * (1 + differentiated))};
}

}  // namespace

std::vector<BenchmarkRow> bench_ops(int threads) {
  std::vector<BenchmarkRow> rows;
  for (const OpCase& op : op_cases()) {
    if (op.large.empty()) continue;
    for (BenchmarkRow& row : bench_op(op, threads)) rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace lockstep
