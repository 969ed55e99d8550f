// SPDX-License-Identifier: Apache-2.0
#include "tools/training/evaluate.h"

#include <optional>

#include "kernels/reduction.h"
#include "runtime/data/batch_upload.h"
#include "runtime/data/sample_order.h"
#include "tools/training/leaf_input.h"

namespace lockstep {
namespace {

int64_t count_correct_leaf(Stream& stream, Pool& pool, const Model& model, std::span<const Tensor> values,
                           const LeafInput& leaf) {
  Context context(stream, pool, nullptr);
  context.set_values(values);
  const SampleResults results = model.forward(context, leaf);
  Tensor total = context.empty({});
  context.launch(Sum{.out = total, .in = results.correct});
  return int64_t(data<float>(HostValue(total, stream).view())[0]);
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
  std::optional<BatchUpload> upload;
  if (stream.device().kind == DeviceKind::cuda) upload.emplace(stream, pool, [](Event& event) { event.synchronize(); });
  int64_t correct = 0;
  for (int64_t step = 0; step < steps; ++step)
    for (const LeafBatch& batch : loader.next().leaves) {
      if (batch.count == 0) continue;
      LeafInput leaf = leaf_input(batch, images);
      if (upload) leaf = upload->bring({&leaf, 1}, 0).leaves[0];
      correct += count_correct_leaf(stream, pool, model, values, leaf);
    }
  Stream host = Stream::cpu();
  communicator.all_reduce(View{&correct, DType::i64, DeviceKind::cpu, Shape{1}}, ReduceOp::sum, host).wait(host);
  return correct;
}

}  // namespace lockstep
