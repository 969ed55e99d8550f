// SPDX-License-Identifier: Apache-2.0
// The config.json and generation_config.json that Hugging Face's libraries keep beside the weights of a language model.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/models/transformer.h"

namespace lockstep {

struct ModelConfig {
  TransformerSettings settings;  // complete
  // Tokens that end a text; none where the file names none.
  std::vector<int32_t> ends;
};

// Reads the config.json of a GPT-2 or Llama model. Error(data), which begins with `where`, for another architecture,
// for keys that contradict each other, and for those that ask for something that is computed differently here: another
// activation, scaled rotary positions, biases. Other keys are passed over. The three rates of dropout of a GPT-2 are
// taken where they are equal; otherwise the rate is 0, for weights compute the same whatever it is.
ModelConfig parse_model_config(std::string_view text, const std::string& where);
// Adds the ends of texts that a generation_config.json names.
void add_generation_config(ModelConfig& config, std::string_view text, const std::string& where);

// `settings` are complete. Reading gives equal settings, apart from `recompute`.
std::string model_config_json(const TransformerSettings& settings, std::optional<int32_t> end_of_text);
std::string generation_config_json(std::optional<int32_t> end_of_text);

}  // namespace lockstep
