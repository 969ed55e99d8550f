// SPDX-License-Identifier: Apache-2.0
#include "runtime/models/cnn.h"

#include "runtime/layers/convolution.h"
#include "runtime/layers/linear.h"
#include "runtime/ops/ops.h"

namespace lockstep {

Model make_cnn(const ModelSettings& settings) {
  check(settings.height >= 6 && settings.width >= 6, ErrorCode::usage,
        [&] { return str("model cnn needs images of at least 6 x 6, got ", settings.height, " x ", settings.width); });
  Model model{.name = "cnn", .variables = {}, .logits = {}, .forward = {}, .columns = {}, .products = {}};
  const int64_t h1 = settings.height - 2, w1 = settings.width - 2, h2 = h1 - 2, w2 = w1 - 2;
  const int64_t flat = h2 / 2 * (w2 / 2) * 64, hidden = 128;
  const Convolution first(model.variables, "conv_1", 3, 1, 32);
  const Convolution second(model.variables, "conv_2", 3, 32, 64);
  const Linear dense(model.variables, "dense", flat, hidden);
  const Linear last(model.variables, "logits", hidden, settings.classes);
  model.products = {{"conv_1", h1 * w1, 9, 32, false},
                    {"conv_2", h2 * w2, 9 * 32, 64, true},
                    {"dense", 1, flat, hidden, true},
                    {"logits", 1, hidden, settings.classes, true}};
  model.logits = [=, rate = settings.dropout](Context& context, const Tensor& images) {
    Tensor x = relu(context, first(context, images));
    x = max_pool2d(context, relu(context, second(context, x)), 2, 2);
    x = reshape(context, x, {images.shape()[0], flat});
    x = dropout(context, relu(context, dense(context, x)), rate);
    return last(context, x);
  };
  classify_images(model, settings);
  return model;
}

}  // namespace lockstep
