// SPDX-License-Identifier: Apache-2.0
#include "runtime/models/gpt.h"

#include <utility>

#include "runtime/layers/linear.h"
#include "runtime/layers/norms.h"

namespace lockstep {
namespace {

class GptBlock {
 public:
  GptBlock(VariableTable& variables, const std::string& name, const TransformerSettings& s)
      : heads_{s.n_head},
        dropout_(s.dropout),
        norm_1_(variables, name + "/ln_1", s.n_embd, s.norm_epsilon),
        attention_(variables, name + "/attn/c_attn", s.n_embd, 3 * s.n_embd, Initializer::normal(kFirstDeviation)),
        attended_(variables, name + "/attn/c_proj", s.n_embd, s.n_embd, residual_initializer(s)),
        norm_2_(variables, name + "/ln_2", s.n_embd, s.norm_epsilon),
        inner_(variables, name + "/mlp/c_fc", s.n_embd, s.n_inner, Initializer::normal(kFirstDeviation)),
        outer_(variables, name + "/mlp/c_proj", s.n_inner, s.n_embd, residual_initializer(s)) {}

  // Without a cache the residual has samples of `length` positions.
  Residual operator()(Context& context, Residual before, int64_t length, KeyValueCache* cache, int64_t layer) const {
    const AttentionHeads heads{length, heads_, heads_};
    SumAndNorm x = norm_1_(context, std::move(before));
    Tensor y = attention_(context, std::exchange(x.norm, {}));
    y = cache ? cached_attention(context, y, heads, *cache, layer) : causal_attention(context, y, heads, dropout_);
    y = attended_(context, y);
    x = norm_2_(context, {std::exchange(x.sum, {}), dropout(context, std::exchange(y, {}), dropout_)});
    y = inner_.with_gelu(context, std::exchange(x.norm, {}));
    return {x.sum, dropout(context, outer_(context, y), dropout_)};
  }

 private:
  int64_t heads_;
  float dropout_;
  LayerNormalization norm_1_;
  Linear attention_, attended_;
  LayerNormalization norm_2_;
  Linear inner_, outer_;
};

void add_gpt_products(std::vector<LayerProduct>& products, const std::string& name, const TransformerSettings& s) {
  const int64_t rows = s.block_size;
  products.push_back({name + "/attn/c_attn", rows, s.n_embd, 3 * s.n_embd, true});
  // Scores and values of a causal half are as much as one product with all positions.
  products.push_back({name + "/attn", rows, s.n_embd, rows, true});
  products.push_back({name + "/attn/c_proj", rows, s.n_embd, s.n_embd, true});
  products.push_back({name + "/mlp/c_fc", rows, s.n_embd, s.n_inner, true});
  products.push_back({name + "/mlp/c_proj", rows, s.n_inner, s.n_embd, true});
}

// The rows of a matrix from `first` on, off the tape.
Tensor rows_from(const Tensor& matrix, int64_t first) {
  const int64_t width = matrix.shape()[1];
  ConstView rows = slice(ConstView(matrix), first * width, matrix.size());
  rows.shape = {matrix.shape()[0] - first, width};
  return Tensor::borrow(rows);
}

}  // namespace

Model make_gpt(std::string_view name, const TransformerSettings& s) {
  Model model{.name = std::string(name), .variables = {}, .logits = {}, .forward = {}, .columns = {}, .products = {}};
  VariableTable& variables = model.variables;
  const Initializer first = Initializer::normal(kFirstDeviation);
  const Variable table = variables.parameter("transformer/wte/weight", {s.vocab_size, s.n_embd}, first);
  const Variable positions = variables.parameter("transformer/wpe/weight", {s.block_size, s.n_embd}, first);
  std::vector<GptBlock> blocks;
  for (int64_t layer = 0; layer < s.n_layer; ++layer) {
    const std::string block = str("transformer/h/", layer);
    blocks.emplace_back(variables, block, s);
    add_gpt_products(model.products, block, s);
  }
  const LayerNormalization norm(variables, "transformer/ln_f", s.n_embd, s.norm_epsilon);
  const Variable classifier = s.tied ? table : variables.parameter("lm_head/weight", {s.vocab_size, s.n_embd}, first);
  const auto hidden = [=](Context& context, const Tensor& tokens, KeyValueCache* cache) {
    const int64_t length = tokens.shape()[1];
    const Tensor places = cache ? rows_from(context.value(positions), cache->length()) : context.value(positions);
    Tensor x = embedding(context, tokens, context.value(table), places);
    x = dropout(context, x, s.dropout);
    return norm(context, through_blocks(context, x, blocks, s, length, cache)).norm;
  };
  predict_tokens(model, s, hidden, classifier);
  return model;
}

}  // namespace lockstep
