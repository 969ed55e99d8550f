// SPDX-License-Identifier: Apache-2.0
// What the program knows of a model that it ships, whatever it is for.
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

class KeyValueCache;

// Of models of images.
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
  // The scores behind the loss: of images [samples, height, width, 1] -> [samples, classes]; of tokens [samples,
  // length] i32, at every position -> [samples * length, vocabulary].
  std::function<Tensor(Context&, const Tensor& inputs)> logits;
  Forward forward;
  std::vector<ColumnShape> columns;  // what forward wants of a batch
  std::vector<LayerProduct> products;
  // Of language models: the scores of what follows tokens [1, new] i32, which go on where the cache stops, and which it
  // keeps -> [1, vocabulary].
  std::function<Tensor(Context&, const Tensor& tokens, KeyValueCache&)> next_logits = {};

  int64_t flops_per_sample() const;
};

// Completes a model whose logits are of images of this size: its batches have columns "images" (f32) and "labels"
// (i32), and it returns the cross-entropy, and the sum "correct" of right answers.
void classify_images(Model& model, const ModelSettings& settings);
std::vector<ColumnShape> image_columns(int64_t height, int64_t width, int64_t classes = 10);

}  // namespace lockstep
