// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/tape_bench.h"

#include <array>

#include "kernels/pointwise.h"
#include "runtime/ops/ops.h"

namespace lockstep {
namespace {

constexpr int kChain = 100;

Tensor filled(Pool& pool, int64_t elements, float value) {
  Tensor tensor(pool, DType::f32, {elements});
  std::fill_n(data<float>(View(tensor)), elements, value);
  return tensor;
}

BenchmarkRow bench_chain(int64_t elements) {
  Stream stream = Stream::cpu();
  Pool pool(stream.device());
  Tape tape;
  Context context(stream, pool, &tape);
  Tensor x = filled(pool, elements, 1), b = filled(pool, elements, 0.5f), seed = filled(pool, elements, 1);
  const Tensor d_x = filled(pool, elements, 0), d_b = filled(pool, elements, 0), scratch = filled(pool, elements, 0);
  const auto taped = [&] {
    tape.clear();
    tape.watch(x, 0, d_x);
    tape.watch(b, 1, d_b);
    Tensor y = x;
    for (int i = 0; i < kChain; ++i) y = add(context, y, b);
    tape.backward(context, y, seed, nullptr);
  };
  const auto bare = [&] {
    for (int i = 0; i < kChain; ++i) launch(stream, Binary<Plus>{scratch, scratch, b});
    for (int i = 0; i < kChain; ++i) launch(stream, AddInto{d_b, seed});
  };
  const std::array<std::function<void()>, 2> calls = {taped, bare};
  const InterleavedTimes times = time_interleaved(calls);
  return {.name = str("tape/add_chain/", elements),
          .value = times.seconds(0) * 1e9 / kChain,
          .unit = "ns/op",
          .roof = times.seconds(1) * 1e9 / kChain,
          .share_of_roof = times.ratio(1, 0),
          .bytes = 0,
          .flops = 2 * elements,
          .note = str("chain of ", kChain, " additions of ", elements,
                      " f32, forward and backward; roof: their kernels alone")};
}

}  // namespace

std::vector<BenchmarkRow> bench_tape() { return {bench_chain(16), bench_chain(1024), bench_chain(16384)}; }

}  // namespace lockstep
