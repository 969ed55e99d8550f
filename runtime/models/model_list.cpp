// SPDX-License-Identifier: Apache-2.0
#include "runtime/models/model_list.h"

#include "kernels/device/known_name.h"
#include "runtime/models/cnn.h"
#include "runtime/models/mlp.h"

namespace lockstep {

std::vector<std::string_view> model_names() {
  return {"mlp", "cnn", "gpt-nano", "gpt-mini", "gpt2-124m", "llama-nano"};
}

std::optional<TransformerSettings> shipped_transformer(std::string_view name) {
  if (name == "gpt-nano")
    return TransformerSettings{.vocab_size = 4096, .block_size = 128, .n_layer = 3, .n_head = 3, .n_embd = 48};
  if (name == "gpt-mini")
    return TransformerSettings{.vocab_size = 4096, .block_size = 256, .n_layer = 6, .n_head = 6, .n_embd = 384};
  // The vocabulary of 50,257 is padded to a multiple of 128.
  if (name == "gpt2-124m")
    return TransformerSettings{.vocab_size = 50304, .block_size = 1024, .n_layer = 12, .n_head = 12, .n_embd = 768};
  if (name == "llama-nano")
    return TransformerSettings{.family = TransformerFamily::llama,
                               .vocab_size = 4096,
                               .block_size = 128,
                               .n_layer = 4,
                               .n_head = 4,
                               .n_kv_head = 2,
                               .n_embd = 64,
                               .tied = false};
  return std::nullopt;
}

Model make_model(std::string_view name, const ModelSettings& settings) {
  const std::vector<std::string_view> known = model_names();
  check_known("model", name, known, list_of(known));
  if (std::optional<TransformerSettings> transformer = shipped_transformer(name)) {
    transformer->dropout = settings.dropout;
    return make_transformer(name, *transformer);
  }
  return name == "mlp" ? make_mlp(settings) : make_cnn(settings);
}

}  // namespace lockstep
