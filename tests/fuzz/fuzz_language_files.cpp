// SPDX-License-Identifier: Apache-2.0
// A config.json, generation_config.json and model.safetensors.index.json of one text: each is refused by an Error that
// names it, or gives settings that come back from the file that they are written to.
#include "runtime/language/model_config.h"
#include "runtime/language/weight_files.h"
#include "tests/fuzz/fuzz_target.h"

namespace lockstep {
namespace {

void check_config(std::string_view text) {
  ModelConfig config = parse_model_config(text, "t.json");
  add_generation_config(config, text, "t.json");
  const std::string written = model_config_json(config.settings, 0);
  const ModelConfig again = parse_model_config(written, "again");
  if (model_config_json(again.settings, 0) != written)
    throw std::logic_error("settings do not come back from their file");
  if (config.settings.n_layer <= 4) make_transformer("fuzzed", config.settings);
}

template <class Read>
void read_or_refuse(const Read& read) {
  try {
    read();
  } catch (const Error& error) {
    check_message(error.what(), "t.json");
  }
}

}  // namespace

std::vector<std::string> built_in_seeds() {
  const TransformerSettings small{.vocab_size = 9, .block_size = 8, .n_layer = 2, .n_head = 2, .n_embd = 8};
  TransformerSettings llama = complete(small);
  llama.family = TransformerFamily::llama, llama.n_kv_head = 1;
  std::string newer = model_config_json(llama, 3);
  newer.insert(newer.rfind('}'),
               R"(, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "head_dim": 4)");
  return {
      model_config_json(complete(small), std::nullopt), model_config_json(llama, 3), newer,
      R"({"metadata": {"total_size": 8}, "weight_map": {"transformer.wte.weight": "model-00001-of-00001.safetensors"}})"};
}

}  // namespace lockstep

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lockstep;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  read_or_refuse([&] { check_config(text); });
  read_or_refuse([&] { parse_weight_index(text, "t.json"); });
  return 0;
}
