// SPDX-License-Identifier: Apache-2.0
#include "tools/training/evaluate.h"

#include <optional>

#include "runtime/data/batch_upload.h"
#include "runtime/data/sample_order.h"
#include "runtime/step/forward_backward.h"
#include "tools/training/image_part.h"

namespace lockstep {
namespace {

int64_t count_correct_part(Stream& stream, Pool& pool, const Model& model, std::span<const Tensor> values,
                           const Batch& batch) {
  Context context(stream, pool, nullptr);
  context.set_values(values);
  const Results results = model.forward(context, batch);
  const Tensor total = sum_over_samples(context, results.sums[0].values);
  return int64_t(data<float>(HostValue(total, stream).view())[0]);
}

}  // namespace

int64_t count_correct(Communicator& communicator, Stream& stream, Pool& pool, const Model& model,
                      std::span<const Tensor> values, const Images& images) {
  // Parts have one size whatever the ranks: products of equal shapes give equal bits, so ties are decided alike.
  constexpr int64_t kBatch = 2000, kParts = 20;
  const int64_t steps = steps_per_epoch(images.count, kBatch);
  const int64_t rank = communicator.rank(), ranks = communicator.size();
  BatchLoader loader(images, {.batch = kBatch,
                              .steps = steps,
                              .shuffle = false,
                              .virtual_ranks = kParts,
                              .first_part = rank * kParts / ranks,
                              .end_part = (rank + 1) * kParts / ranks});
  std::optional<BatchUpload> upload;
  if (stream.device().kind == DeviceKind::cuda) upload.emplace(stream, pool, [](Event& event) { event.synchronize(); });
  int64_t correct = 0;
  for (int64_t step = 0; step < steps; ++step)
    for (const ImagePart& batch : loader.next().parts) {
      if (batch.count == 0) continue;
      BatchPart part = image_part(batch, images);
      if (upload) part = upload->bring({&part, 1}, 0).parts[0];
      correct += count_correct_part(stream, pool, model, values, part.batch);
    }
  Stream host = Stream::cpu();
  communicator.all_reduce(View{&correct, DType::i64, DeviceKind::cpu, Shape{1}}, ReduceOp::sum, host).wait(host);
  return correct;
}

}  // namespace lockstep
