// SPDX-License-Identifier: Apache-2.0
#include "runtime/leaf_passes.h"

#include "kernels/leaf_results.h"
#include "kernels/pointwise.h"
#include "kernels/reduction.h"

namespace lockstep {
namespace {

Tensor sum(Context& context, const Tensor& values) {
  Tensor total = context.empty({});
  context.launch(Sum{.out = total, .in = values});
  return total;
}

}  // namespace

void run_passes(Context& context, const Forward& forward, const LeafInput& leaf, const View& cells, float weight,
                const Tape::OnReady& ready, const double* scale) {
  const SampleResults results = forward(context, leaf);
  context.launch(StoreLeafResults{
      .cells = cells, .loss = sum(context, results.loss), .correct = sum(context, results.correct), .leaf = leaf.leaf});
  Tensor seed = context.empty_like(results.loss);
  context.launch(SeedGradient{seed, weight, scale});
  context.tape()->backward(context, results.loss, seed, ready);
}

}  // namespace lockstep
