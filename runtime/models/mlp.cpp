// SPDX-License-Identifier: Apache-2.0
#include "runtime/models/mlp.h"

#include "runtime/layers/linear.h"
#include "runtime/ops/ops.h"

namespace lockstep {

Model make_mlp(const ModelSettings& settings) {
  Model model{.name = "mlp", .variables = {}, .logits = {}, .forward = {}, .columns = {}, .products = {}};
  const int64_t pixels = settings.height * settings.width, hidden = 512;
  const Linear first(model.variables, "dense_1", pixels, hidden);
  const Linear second(model.variables, "dense_2", hidden, hidden);
  const Linear last(model.variables, "logits", hidden, settings.classes);
  model.products = {{"dense_1", 1, pixels, hidden, false},
                    {"dense_2", 1, hidden, hidden, true},
                    {"logits", 1, hidden, settings.classes, true}};
  model.logits = [=, rate = settings.dropout](Context& context, const Tensor& images) {
    Tensor x = reshape(context, images, {images.shape()[0], pixels});
    x = dropout(context, relu(context, first(context, x)), rate);
    x = dropout(context, relu(context, second(context, x)), rate);
    return last(context, x);
  };
  classify_images(model, settings);
  return model;
}

}  // namespace lockstep
