// SPDX-License-Identifier: Apache-2.0
// What a training has made of a language model, as files.
#pragma once

#include <string>

#include "runtime/language/language_model.h"
#include "runtime/state/variable_store.h"

namespace lockstep {

// Writes the variables of make_transformer(settings), as they are in a training, as save_model_file() does where `path`
// ends in .safetensors, and otherwise as save_directory() does. `tokenizer`, of the texts that were trained on, may be
// null. One rank calls it. Waits for the GPU where there is one.
void save_trained(const std::string& path, const TransformerSettings& settings, const VariableStore& variables,
                  const Tokenizer* tokenizer);

}  // namespace lockstep
