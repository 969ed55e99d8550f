// SPDX-License-Identifier: Apache-2.0
#include "runtime/models/transformer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/attention.h"
#include "runtime/layers/metrics.h"
#include "runtime/models/gpt.h"
#include "runtime/models/llama.h"
#include "runtime/ops/language.h"

namespace lockstep {
namespace {

void check_at_least(const char* name, int64_t value, int64_t least) {
  check(value >= least, ErrorCode::usage,
        [&] { return str("model.", name, ": expected at least ", least, ", got ", value); });
}

void check_tokens(const Tensor& tokens, const TransformerSettings& settings) {
  check(tokens.shape().rank() == 2 && tokens.dtype() == DType::i32 && tokens.shape()[1] <= settings.block_size,
        ErrorCode::usage, [&] {
          return str("expected tokens i32 [samples, up to block_size ", settings.block_size, "], got ",
                     to_string(tokens.dtype()), " ", to_string(tokens.shape()),
                     "; cut the samples, or choose a longer model.block_size");
        });
}

void check_next_tokens(const Tensor& tokens, const TransformerSettings& settings, const KeyValueCache& cache) {
  const int64_t room = std::min(settings.block_size, cache.capacity()) - cache.length();
  check(tokens.shape().rank() == 2 && tokens.dtype() == DType::i32 && tokens.shape()[0] == 1 && tokens.size() > 0 &&
            tokens.size() <= room,
        ErrorCode::usage, [&] {
          return str("expected tokens i32 [1, 1 up to ", room, "] behind the ", cache.length(),
                     " in the cache of a model with a block_size of ", settings.block_size, ", got ",
                     to_string(tokens.dtype()), " ", to_string(tokens.shape()), "; clear the cache");
        });
}

}  // namespace

TransformerSettings complete(TransformerSettings s) {
  check_at_least("vocab_size", s.vocab_size, 1);
  check_at_least("block_size", s.block_size, 1);
  check_at_least("n_layer", s.n_layer, 1);
  check_at_least("n_head", s.n_head, 1);
  check_at_least("n_embd", s.n_embd, 1);
  check_at_least("n_kv_head", s.n_kv_head, 0);
  check_at_least("n_inner", s.n_inner, 0);
  const bool llama = s.family == TransformerFamily::llama;
  if (s.n_kv_head == 0) s.n_kv_head = s.n_head;
  if (s.n_inner == 0) s.n_inner = llama ? (s.n_embd * 8 / 3 + 31) / 32 * 32 : 4 * s.n_embd;
  check(s.n_embd % s.n_head == 0, ErrorCode::usage, [&] {
    return str("model.n_embd ", s.n_embd, " is not divisible by model.n_head ", s.n_head,
               ": every head takes an equal part; use n_embd ", (s.n_embd / s.n_head + 1) * s.n_head);
  });
  check(s.n_head % s.n_kv_head == 0 && (llama || s.n_kv_head == s.n_head), ErrorCode::usage, [&] {
    return str("model.n_kv_head ", s.n_kv_head, llama ? " does not divide" : ": the gpt family expects all of",
               " model.n_head ", s.n_head);
  });
  check(s.head_size() <= kMostHeadSize && (!llama || s.head_size() % 2 == 0), ErrorCode::usage, [&] {
    return str("model.n_embd ", s.n_embd, " with model.n_head ", s.n_head, " gives heads of ", s.head_size(),
               ", expected at most ", kMostHeadSize, llama ? " and an even size" : "");
  });
  check(s.dropout >= 0 && s.dropout < 1, ErrorCode::usage,
        [&] { return str("model.dropout: expected a rate in [0, 1), got ", s.dropout); });
  check(s.norm_epsilon > 0 && s.rope_theta >= 1, ErrorCode::usage, [&] {
    return str("model.norm_epsilon and model.rope_theta: expected more than 0 and at least 1, got ", s.norm_epsilon,
               " and ", s.rope_theta);
  });
  return s;
}

Model make_transformer(std::string_view name, const TransformerSettings& settings) {
  const TransformerSettings complete_settings = complete(settings);
  return settings.family == TransformerFamily::gpt ? make_gpt(name, complete_settings)
                                                   : make_llama(name, complete_settings);
}

void predict_tokens(Model& model, const TransformerSettings& settings, const HiddenStates& hidden,
                    Variable classifier) {
  model.columns = {{"tokens", DType::i32, {settings.block_size}, settings.vocab_size},
                   {"targets", DType::i32, {settings.block_size}, settings.vocab_size}};
  model.products.push_back({"classifier", settings.block_size, settings.n_embd, settings.vocab_size, true});
  model.logits = [=](Context& context, const Tensor& tokens) {
    check_tokens(tokens, settings);
    return matmul_transposed(context, hidden(context, tokens, nullptr), context.value(classifier));
  };
  model.next_logits = [=](Context& context, const Tensor& tokens, KeyValueCache& cache) {
    check_next_tokens(tokens, settings, cache);
    const Tensor states = hidden(context, tokens, &cache);
    cache.advance(tokens.size());
    ConstView last = states;
    last = slice(last, states.size() - settings.n_embd, states.size());
    last.shape = {1, settings.n_embd};
    return matmul_transposed(context, Tensor::borrow(last), context.value(classifier));
  };
  model.forward = [=](Context& context, const Batch& batch) -> Results {
    const Tensor tokens = batch["tokens"], targets = batch["targets"];
    check_tokens(tokens, settings);
    check(targets.shape() == tokens.shape() && targets.dtype() == DType::i32, ErrorCode::usage, [&] {
      return str("expected a target i32 for every token ", to_string(tokens.shape()), ", got ",
                 to_string(targets.dtype()), " ", to_string(targets.shape()));
    });
    const Tensor losses = token_loss(context, hidden(context, tokens, nullptr), context.value(classifier), targets);
    return {.loss = sample_means(context, losses, batch.samples()),
            .sums = {{"tokens", count_unmasked(context, targets)}},
            .divisor = {.sum = 0, .unit = double(targets.shape()[1])}};
  };
}

Initializer residual_initializer(const TransformerSettings& settings) {
  return Initializer::normal(kFirstDeviation / std::sqrt(2.0 * double(settings.n_layer)));
}

}  // namespace lockstep
