// SPDX-License-Identifier: Apache-2.0
#include "tools/training/tasks/chosen_model.h"

#include <vector>

#include "kernels/device/known_name.h"
#include "kernels/device/number_text.h"

namespace lockstep {

std::optional<TransformerSettings> language_settings(const ModelOptions& options) {
  std::optional<TransformerSettings> settings = shipped_transformer(options.name);
  if (!settings) {
    check(options.changes.empty() && options.sequence == 0, ErrorCode::usage, [&] {
      return str("--sequence and settings such as --model.n_layer are those of a language model, but --model is '",
                 options.name, "'; use --model gpt-mini, or leave them out");
    });
    return std::nullopt;
  }
  for (const TransformerChange& change : options.changes) change(*settings);
  settings->dropout = float(options.dropout);
  return complete(*settings);
}

int64_t sequence_of(const TransformerSettings& settings, int64_t asked) {
  check(asked >= 0 && asked <= settings.block_size, ErrorCode::usage, [&] {
    return str("--sequence: expected 1 to ", settings.block_size,
               " tokens, the model's block_size, or 0 for all of them, got ", asked,
               "; a longer sample takes a larger --model.block_size");
  });
  return asked == 0 ? settings.block_size : asked;
}

Model make_chosen_model(const ModelOptions& options, ModelSettings images) {
  std::optional<TransformerSettings> settings = language_settings(options);
  if (!settings) {
    images.dropout = float(options.dropout);
    return make_model(options.name, images);
  }
  Model model = make_transformer(options.name, *settings);
  const int64_t sequence = sequence_of(*settings, options.sequence);
  if (sequence == settings->block_size) return model;
  // Shorter samples: what a batch looks like and what it costs are those of a model that takes no longer ones.
  settings->block_size = sequence;
  Model shorter = make_transformer(options.name, *settings);
  model.columns = std::move(shorter.columns);
  model.products = std::move(shorter.products);
  return model;
}

std::string model_text(const ModelOptions& options) {
  const std::optional<TransformerSettings> settings = language_settings(options);
  if (!settings) return options.name;
  const TransformerSettings& s = *settings;
  std::string text =
      str(options.name, "(", s.family == TransformerFamily::gpt ? "gpt" : "llama", " vocab_size=", s.vocab_size,
          " block_size=", s.block_size, " n_layer=", s.n_layer, " n_head=", s.n_head, " n_kv_head=", s.n_kv_head,
          " n_embd=", s.n_embd, " n_inner=", s.n_inner, " norm_epsilon=", exact(s.norm_epsilon), " tied=", s.tied);
  if (s.family == TransformerFamily::llama)
    text += str(" rope_theta=", exact(s.rope_theta),
                " rope_pairs=", s.rope_pairs == RotaryPairs::halves ? "halves" : "neighbours");
  return str(text, " sequence=", sequence_of(s, options.sequence), ")");
}

}  // namespace lockstep
