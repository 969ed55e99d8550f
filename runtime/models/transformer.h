// SPDX-License-Identifier: Apache-2.0
// What the two families of language models have in common: settings under the names that people know, and how tokens
// become a loss.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/rotary.h"
#include "runtime/layers/norms.h"
#include "runtime/models/model.h"
#include "runtime/ops/cached_attention.h"
#include "runtime/ops/language.h"

namespace lockstep {

enum class TransformerFamily : uint8_t { gpt, llama };

struct TransformerSettings {
  TransformerFamily family = TransformerFamily::gpt;
  int64_t vocab_size = 4096;
  int64_t block_size = 256;  // tokens of a sample, at most
  int64_t n_layer = 6;
  int64_t n_head = 6;
  int64_t n_kv_head = 0;  // 0: n_head. llama: heads of keys and values, each for a group of n_head / n_kv_head
  int64_t n_embd = 384;
  int64_t n_inner = 0;  // width inside of a block; 0: 4 n_embd for gpt, 8/3 n_embd up to a multiple of 32 for llama
  float dropout = 0;    // gpt: of embeddings, attention and what blocks add
  float norm_epsilon = 1e-5f;
  float rope_theta = 10000;                      // llama
  RotaryPairs rope_pairs = RotaryPairs::halves;  // llama
  bool tied = true;                              // whether the table of tokens is the classifier too
  bool recompute = false;  // keep only the input of a block and compute it again for its gradient; the same bits

  int64_t head_size() const { return n_embd / n_head; }
};

// Fills in what is 0. Error(usage) names the setting that does not fit.
TransformerSettings complete(TransformerSettings settings);

// A model of batches with columns "tokens" and "targets", both [samples, up to block_size] i32 and below vocab_size;
// targets below 0 are masked.
//
// Note [Loss of a sample]. It is the sum of the losses of its unmasked tokens over its length, and the losses of a step
// are divided by the unmasked tokens of the whole batch over that length (LossDivisor). So a step follows the gradient
// of the mean over all unmasked tokens, and reports that mean, whatever the masks and however ranks share the batch.
// Without masks it is the mean over samples, to the bit. The sum "tokens" counts unmasked tokens.
Model make_transformer(std::string_view name, const TransformerSettings& settings);

// For the files of the families: the way from tokens to the last hidden states; with a cache (otherwise null), those of
// one sample that goes on where the cache stops.
using HiddenStates = std::function<Tensor(Context&, const Tensor& tokens, KeyValueCache* cache)>;
// Completes a model by them and by `classifier`, a variable [vocab_size, n_embd].
void predict_tokens(Model& model, const TransformerSettings& settings, const HiddenStates& hidden, Variable classifier);

// Standard deviation of first values, as in GPT-2 (Radford et al. 2019): projections that end on the residual path have
// it divided by the root of their number, 2 n_layer.
inline constexpr double kFirstDeviation = 0.02;
Initializer residual_initializer(const TransformerSettings& settings);

// x after all blocks, whose last sum is left to the norm behind them. Each block is computed again for its gradient
// where the settings want it; what is kept of such a one is its sum. `blocks` outlive the tape.
template <class Block>
Residual through_blocks(Context& context, const Tensor& x, const std::vector<Block>& blocks,
                        const TransformerSettings& settings, int64_t length, KeyValueCache* cache) {
  Residual residual{x};
  for (size_t layer = 0; layer < blocks.size(); ++layer) {
    const Block& block = blocks[layer];
    if (!settings.recompute) {
      residual = block(context, std::move(residual), length, cache, int64_t(layer));
      continue;
    }
    residual.x = recompute(context, residual.x, [&block, length, cache, layer](Context& c, const Tensor& t) {
      const Residual after = block(c, {t}, length, cache, int64_t(layer));
      return add(c, after.x, *after.y);
    });
  }
  return residual;
}

}  // namespace lockstep
