// SPDX-License-Identifier: Apache-2.0
// The models that the program ships: an MLP and a CNN for 28 x 28 grey images in ten classes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/autograd/context.h"
#include "runtime/data/batch.h"
#include "runtime/variables/variables.h"

namespace lockstep {

struct ModelSettings {
  int64_t height = 28, width = 28;
  int64_t classes = 10;
  float dropout = 0;  // before the last layer, and between the hidden layers of the mlp
};

// One matrix product (convolutions as im2col products) in a sample's forward and backward pass:
// [rows, inner] . [inner, columns], with the rows of one sample.
struct LayerProduct {
  std::string layer;
  int64_t rows, inner, columns;
  bool needs_input_gradient;  // false for the first layer

  // Multiply-adds count two; forward, weight gradient and input gradient cost the same.
  int64_t flops_per_sample() const { return 2 * rows * inner * columns * (needs_input_gradient ? 3 : 2); }
};

struct Model {
  std::string name;
  VariableTable variables;
  std::function<Tensor(Context&, const Tensor& images)> logits;  // [samples, height, width, 1] -> [samples, classes]
  std::vector<LayerProduct> products;

  int64_t flops_per_sample() const;
  // Takes a batch with columns "images" (f32) and "labels" (i32). Returns the cross-entropy, and the sum "correct" of
  // right answers.
  Results forward(Context& context, const Batch& batch) const;
};

}  // namespace lockstep
