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

void classify_images(Model& model, const ModelSettings& settings) {
  model.columns = image_columns(settings.height, settings.width, settings.classes);
  model.forward = [logits = model.logits](Context& context, const Batch& batch) -> Results {
    const Tensor labels = batch["labels"];
    const Tensor scores = logits(context, batch["images"]);
    return {.loss = softmax_cross_entropy(context, scores, labels),
            .sums = {{"correct", count_correct(context, scores, labels)}}};
  };
}

std::vector<ColumnShape> image_columns(int64_t height, int64_t width, int64_t classes) {
  return {{"images", DType::f32, {height, width, 1}}, {"labels", DType::i32, {}, classes}};
}

}  // namespace lockstep
