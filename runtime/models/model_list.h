// SPDX-License-Identifier: Apache-2.0
// The models that the program ships, by name: the one list of them.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "runtime/models/model.h"
#include "runtime/models/transformer.h"

namespace lockstep {

std::vector<std::string_view> model_names();
// The settings of a language model; none for models of images and for unknown names.
std::optional<TransformerSettings> shipped_transformer(std::string_view name);
// Throws Error(usage) for an unknown name, naming those known, and for images too small for the model. A
// language model takes nothing but the dropout from `settings`; make_transformer() takes settings of its own.
Model make_model(std::string_view name, const ModelSettings& settings);

}  // namespace lockstep
