// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/forward_backward.h"

#include "kernels/reduction.h"

namespace lockstep {
namespace {

void check_results(const Results& results, const StepCells& cells) {
  check(results.sums.size() <= size_t(cells.sums), ErrorCode::usage, [&] {
    return str("the model returns ", results.sums.size(), " named sums, but the plan has room for ", cells.sums,
               "; raise `sums` of the plan's settings, up to ", kMostSums);
  });
  for (const NamedSum& sum : results.sums)
    check(sum.values && sum.values.dtype() == DType::f32, ErrorCode::usage, [&] {
      return str("the model's sum '", sum.name, "' is ", to_string(sum.values.dtype()),
                 ", expected f32 for every sample");
    });
}

}  // namespace

Tensor sum_over_samples(Context& context, const Tensor& values) {
  Tensor total = context.empty({});
  context.launch(Sum{.out = total, .in = values});
  return total;
}

std::vector<BatchPart> micro_batches(const BatchPart& part, int64_t count) {
  if (count == 1) return {part};
  const int64_t samples = part.batch.samples();
  std::vector<BatchPart> all;
  for (int64_t m = 0; m < count; ++m) {
    const int64_t begin = m * samples / count, end = (m + 1) * samples / count;
    if (begin < end) all.push_back({part.number, part.batch.rows(begin, end)});
  }
  return all;
}

Results forward_backward(Context& context, const Forward& forward, const BatchPart& part, const StepCells& cells,
                         float weight, const Tape::OnReady& ready, const double* scale) {
  Results results = forward(context, part.batch);
  check_results(results, cells);
  std::vector<Tensor> totals{sum_over_samples(context, results.loss)};
  for (const NamedSum& sum : results.sums) totals.push_back(sum_over_samples(context, sum.values));
  AddToPart add{.cells = cells, .part = part.number, .count = int32_t(totals.size()), .numbers = {}};
  std::copy(totals.begin(), totals.end(), add.numbers.begin());
  context.launch(add);
  Tensor seed = context.empty_like(results.loss);
  context.launch(SeedGradient{seed, weight, scale});
  context.tape()->backward(context, results.loss, seed, ready);
  return results;
}

}  // namespace lockstep
