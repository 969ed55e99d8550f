// SPDX-License-Identifier: Apache-2.0
#include "runtime/models/model.h"

#include "runtime/layers/metrics.h"
#include "runtime/ops/ops.h"

namespace lockstep {

int64_t Model::flops_per_sample() const {
  int64_t flops = 0;
  for (const LayerProduct& product : products) flops += product.flops_per_sample();
  return flops;
}

Results Model::forward(Context& context, const Batch& batch) const {
  const Tensor labels = batch["labels"];
  const Tensor scores = logits(context, batch["images"]);
  return {.loss = softmax_cross_entropy(context, scores, labels),
          .sums = {{"correct", count_correct(context, scores, labels)}}};
}

}  // namespace lockstep
