// SPDX-License-Identifier: Apache-2.0
// The differentiable ops of language models. Activations are matrices with a row for each position of each sample,
// [samples * length, width], f32 or bf16 (Note [Dtypes] in ops.h). Tables and weights may be bf16 or f16. Every op has
// a case in tools/bench/ops/language_cases.cpp. Error(plan) when shapes do not fit.
#pragma once

#include <functional>

#include "kernels/attention.h"
#include "kernels/rotary.h"
#include "runtime/ops/ops.h"

namespace lockstep {

// Rows of table [entries, width] at tokens [samples, length] i32, each in [0, entries) -> [samples * length, width].
// The result has the dtype of Context::activations(). Gradients are added up by token in the order of rows.
Tensor embedding(Call call, const Tensor& tokens, const Tensor& table);
// The same plus row i of positions [at least length, width] at position i of every sample.
Tensor embedding(Call call, const Tensor& tokens, const Tensor& table, const Tensor& positions);

// x / sqrt(mean of x^2 + epsilon) * gain over the last dimension; gain has its size.
Tensor rms_norm(Call call, const Tensor& x, const Tensor& gain, float epsilon = 1e-5f);
// The same of sum = add(x, y): see add_layer_norm().
SumAndNorm add_rms_norm(Call call, const Tensor& x, const Tensor& y, const Tensor& gain, float epsilon = 1e-5f);

// Turns the heads of x [samples * length, heads * head_size] by their positions.
Tensor rotary(Call call, const Tensor& x, const RotaryGeometry& geometry);

Tensor swiglu(Call call, const Tensor& gate, const Tensor& up);  // gate * sigmoid(gate) * up, equal shapes

// Causal attention of heads * head_size columns of queries over kv_heads * head_size columns of keys and of values,
// each [samples * length, columns], -> [samples * length, heads * head_size]. Scores are scaled by 1 / sqrt(head_size);
// while training, weights are dropped with probability `dropout`.
struct AttentionHeads {
  int64_t length;
  int64_t heads, kv_heads;
};
Tensor causal_attention(Call call, const Tensor& query, const Tensor& key, const Tensor& value,
                        const AttentionHeads& heads, float dropout = 0);
// The same with queries, keys and values side by side in one matrix, as one product has made them.
Tensor causal_attention(Call call, const Tensor& query_key_value, const AttentionHeads& heads, float dropout = 0);

// Logits of a vocabulary above this size are never whole in memory: they are computed, and once more for the gradient,
// by blocks of rows.
inline constexpr int64_t kMostLogitBytes = int64_t(256) << 20;
// hidden [rows, width], weight [classes, width], targets of `rows` elements, i32 and below classes -> the cross-entropy
// of hidden . weight transposed in each row, [rows]: minus the logarithm of the probability of its target. A target
// below 0 has loss 0 and no gradient.
Tensor token_loss(Call call, const Tensor& hidden, const Tensor& weight, const Tensor& targets,
                  int64_t most_logit_bytes = kMostLogitBytes);

Tensor log_softmax(Call call, const Tensor& logits);  // over the last of two dimensions

// The mean over the elements of each sample, which lie together: -> [samples]
Tensor sample_means(Call call, const Tensor& x, int64_t samples);

// segment(context, x), of which nothing but x is kept: the backward pass computes it again, with the same random
// numbers and the same bits. The segment leads to its result from x and from variables of the context alone.
using Segment = std::function<Tensor(Context&, const Tensor&)>;
Tensor recompute(Call call, const Tensor& x, const Segment& segment);

}  // namespace lockstep
