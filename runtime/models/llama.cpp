// SPDX-License-Identifier: Apache-2.0
#include "runtime/models/llama.h"

#include <utility>

#include "runtime/layers/linear.h"
#include "runtime/layers/norms.h"

namespace lockstep {
namespace {

class LlamaBlock {
 public:
  LlamaBlock(VariableTable& variables, const std::string& name, const TransformerSettings& s)
      : settings_(s),
        norm_1_(variables, name + "/input_layernorm", s.n_embd, s.norm_epsilon),
        query_(variables, name + "/self_attn/q_proj", s.n_embd, s.n_embd, first()),
        key_(variables, name + "/self_attn/k_proj", s.n_embd, s.n_kv_head * s.head_size(), first()),
        value_(variables, name + "/self_attn/v_proj", s.n_embd, s.n_kv_head * s.head_size(), first()),
        attended_(variables, name + "/self_attn/o_proj", s.n_embd, s.n_embd, residual_initializer(s)),
        norm_2_(variables, name + "/post_attention_layernorm", s.n_embd, s.norm_epsilon),
        gate_(variables, name + "/mlp/gate_proj", s.n_embd, s.n_inner, first()),
        up_(variables, name + "/mlp/up_proj", s.n_embd, s.n_inner, first()),
        down_(variables, name + "/mlp/down_proj", s.n_inner, s.n_embd, residual_initializer(s)) {}

  // Without a cache the residual has samples of `length` positions.
  Residual operator()(Context& context, Residual before, int64_t length, KeyValueCache* cache, int64_t layer) const {
    const TransformerSettings& s = settings_;
    const RotaryGeometry turned{.length = length,
                                .head_size = s.head_size(),
                                .theta = s.rope_theta,
                                .pairs = s.rope_pairs,
                                .first_position = cache ? cache->length() : 0};
    SumAndNorm x = norm_1_(context, std::move(before));
    const Tensor query = rotary(context, query_(context, x.norm), turned);
    const Tensor key = rotary(context, key_(context, x.norm), turned);
    const Tensor value = value_(context, x.norm);
    const AttentionHeads heads{length, s.n_head, s.n_kv_head};
    const Tensor y = cache ? cached_attention(context, query, key, value, heads, *cache, layer)
                           : causal_attention(context, query, key, value, heads);
    x = norm_2_(context, {std::exchange(x.sum, {}), attended_(context, y)});
    return {x.sum, down_(context, swiglu(context, gate_(context, x.norm), up_(context, x.norm)))};
  }

 private:
  static Initializer first() { return Initializer::normal(kFirstDeviation); }

  TransformerSettings settings_;
  RmsNormalization norm_1_;
  Projection query_, key_, value_, attended_;
  RmsNormalization norm_2_;
  Projection gate_, up_, down_;
};

void add_llama_products(std::vector<LayerProduct>& products, const std::string& name, const TransformerSettings& s) {
  const int64_t rows = s.block_size, kv_width = s.n_kv_head * s.head_size();
  products.push_back({name + "/self_attn/q_proj", rows, s.n_embd, s.n_embd, true});
  products.push_back({name + "/self_attn/k_proj", rows, s.n_embd, kv_width, true});
  products.push_back({name + "/self_attn/v_proj", rows, s.n_embd, kv_width, true});
  // Scores and values of a causal half are as much as one product with all positions.
  products.push_back({name + "/self_attn", rows, s.n_embd, rows, true});
  products.push_back({name + "/self_attn/o_proj", rows, s.n_embd, s.n_embd, true});
  products.push_back({name + "/mlp/gate_proj", rows, s.n_embd, s.n_inner, true});
  products.push_back({name + "/mlp/up_proj", rows, s.n_embd, s.n_inner, true});
  products.push_back({name + "/mlp/down_proj", rows, s.n_inner, s.n_embd, true});
}

}  // namespace

Model make_llama(std::string_view name, const TransformerSettings& s) {
  Model model{.name = std::string(name), .variables = {}, .logits = {}, .forward = {}, .columns = {}, .products = {}};
  VariableTable& variables = model.variables;
  const Initializer first = Initializer::normal(kFirstDeviation);
  const Variable table = variables.parameter("model/embed_tokens/weight", {s.vocab_size, s.n_embd}, first);
  std::vector<LlamaBlock> blocks;
  for (int64_t layer = 0; layer < s.n_layer; ++layer) {
    const std::string block = str("model/layers/", layer);
    blocks.emplace_back(variables, block, s);
    add_llama_products(model.products, block, s);
  }
  const RmsNormalization norm(variables, "model/norm", s.n_embd, s.norm_epsilon);
  const Variable classifier = s.tied ? table : variables.parameter("lm_head/weight", {s.vocab_size, s.n_embd}, first);
  const auto hidden = [=](Context& context, const Tensor& tokens, KeyValueCache* cache) {
    const int64_t length = tokens.shape()[1];
    Tensor x = embedding(context, tokens, context.value(table));
    return norm(context, through_blocks(context, x, blocks, s, length, cache)).norm;
  };
  predict_tokens(model, s, hidden, classifier);
  return model;
}

}  // namespace lockstep
