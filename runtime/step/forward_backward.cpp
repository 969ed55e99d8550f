// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/forward_backward.h"

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

// Samples [begin, end) of something that has one at least.
ConstView samples_of(const ConstView& view, int64_t begin, int64_t end) {
  const int64_t elements = view.size() / view.shape[0];
  ConstView part = slice(view, begin * elements, end * elements);
  std::vector<int64_t> sizes(view.shape.sizes().begin(), view.shape.sizes().end());
  sizes[0] = end - begin;
  part.shape = Shape(std::span<const int64_t>(sizes));
  return part;
}

}  // namespace

std::vector<LeafInput> micro_batches(const LeafInput& leaf, int64_t parts) {
  if (parts == 1) return {leaf};
  const int64_t samples = leaf.sample_ids.size();
  std::vector<LeafInput> all;
  for (int64_t p = 0; p < parts; ++p) {
    const int64_t begin = p * samples / parts, end = (p + 1) * samples / parts;
    if (begin == end) continue;
    all.push_back({.leaf = leaf.leaf,
                   .inputs = samples_of(leaf.inputs, begin, end),
                   .labels = samples_of(leaf.labels, begin, end),
                   .sample_ids = samples_of(leaf.sample_ids, begin, end)});
  }
  return all;
}

void forward_backward(Context& context, const Forward& forward, const LeafInput& leaf, const View& cells, float weight,
                      const Tape::OnReady& ready, const double* scale) {
  const SampleResults results = forward(context, leaf);
  context.launch(AddLeafResults{
      .cells = cells, .loss = sum(context, results.loss), .correct = sum(context, results.correct), .leaf = leaf.leaf});
  Tensor seed = context.empty_like(results.loss);
  context.launch(SeedGradient{seed, weight, scale});
  context.tape()->backward(context, results.loss, seed, ready);
}

}  // namespace lockstep
