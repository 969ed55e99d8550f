// SPDX-License-Identifier: Apache-2.0
// The ops of language models in plain double loops.
#pragma once

#include "runtime/ops/language.h"
#include "tools/bench/ops/op_references.h"

namespace lockstep::reference {

DoubleTensor embedding(const Inputs& x);  // tokens, table, and positions if there are three
DoubleTensor rms_norm(const Inputs& x);   // x, gain; epsilon 1e-5
DoubleTensor rotary(const DoubleTensor& x, const RotaryGeometry& geometry);
DoubleTensor swiglu(const Inputs& x);  // gate, up
// Queries, keys and values, or one matrix of all. `draw` says by what a weight is multiplied.
using Draw = std::function<double(int64_t sample, int64_t head, int64_t query, int64_t key)>;
DoubleTensor causal_attention(const Inputs& x, const AttentionHeads& heads, const Draw& draw);
// The factors of dropout with a key of dropout_key() for the samples 0, 1, ..., by the first random op of a pass.
Draw attention_dropout(uint64_t key, double rate);
DoubleTensor token_loss(const Inputs& x);  // hidden, weight, targets
DoubleTensor log_softmax(const DoubleTensor& logits);
DoubleTensor sample_means(const DoubleTensor& x, int64_t samples);
DoubleTensor transposed(const DoubleTensor& x);

}  // namespace lockstep::reference
