// SPDX-License-Identifier: Apache-2.0
#include "tools/evaluate.h"

#include "kernels/reduction.h"
#include "tools/leaf_input.h"
#include "tools/sample_order.h"

namespace lockstep {
namespace {

int64_t count_correct_leaf(Stream& stream, Pool& pool, const Model& model, std::span<const Tensor> values,
                           const LeafInput& leaf) {
  Context context(stream, pool, nullptr);
  context.set_values(values);
  const SampleResults results = model.forward(context, leaf);
  Tensor total = context.empty({});
  context.launch(Sum{.out = total, .in = results.correct});
  stream.synchronize();
  return int64_t(data<float>(ConstView(total))[0]);
}

}  // namespace

int64_t count_correct(Communicator& communicator, Stream& stream, Pool& pool, const Model& model,
                      std::span<const Tensor> values, const Images& images) {
  // Leaves of one size whatever the ranks: products of equal shapes give equal bits, so a tie is decided alike.
  constexpr int64_t kBatch = 2000, kLeaves = 20;
  const int64_t steps = steps_per_epoch(images.count, kBatch);
  const int64_t rank = communicator.rank(), ranks = communicator.size();
  BatchLoader loader(images, {.batch = kBatch,
                              .steps = steps,
                              .shuffle = false,
                              .virtual_ranks = kLeaves,
                              .first_leaf = rank * kLeaves / ranks,
                              .end_leaf = (rank + 1) * kLeaves / ranks});
  int64_t correct = 0;
  for (int64_t step = 0; step < steps; ++step)
    for (const LeafBatch& leaf : loader.next().leaves)
      if (leaf.count > 0) correct += count_correct_leaf(stream, pool, model, values, leaf_input(leaf, images));
  communicator.all_reduce(View{&correct, DType::i64, DeviceKind::cpu, Shape{1}}, ReduceOp::sum, stream).wait(stream);
  return correct;
}

}  // namespace lockstep
