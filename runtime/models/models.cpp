// SPDX-License-Identifier: Apache-2.0
#include "runtime/models/models.h"

#include "kernels/device/known_name.h"
#include "runtime/layers/convolution.h"
#include "runtime/layers/linear.h"
#include "runtime/layers/metrics.h"
#include "runtime/ops/ops.h"

namespace lockstep {
namespace {

// 784 - 512 - 512 - 10 with ReLU.
Model make_mlp(const ModelSettings& settings) {
  Model model{.name = "mlp", .variables = {}, .logits = {}, .products = {}};
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
  return model;
}

// Two 3 x 3 convolutions of 32 and 64 channels, 2 x 2 max pooling, a dense layer of 128.
Model make_cnn(const ModelSettings& settings) {
  check(settings.height >= 6 && settings.width >= 6, ErrorCode::usage,
        [&] { return str("model cnn needs images of at least 6 x 6, got ", settings.height, " x ", settings.width); });
  Model model{.name = "cnn", .variables = {}, .logits = {}, .products = {}};
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
  return model;
}

}  // namespace

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

std::vector<std::string_view> model_names() { return {"mlp", "cnn"}; }

Model make_model(std::string_view name, const ModelSettings& settings) {
  const std::vector<std::string_view> known = model_names();
  check_known("model", name, known, list_of(known));
  return name == "mlp" ? make_mlp(settings) : make_cnn(settings);
}

}  // namespace lockstep
