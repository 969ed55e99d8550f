// SPDX-License-Identifier: Apache-2.0
// The models that the program ships, by name: the one list of them.
#pragma once

#include <string_view>
#include <vector>

#include "runtime/models/model.h"

namespace lockstep {

std::vector<std::string_view> model_names();
// Throws Error(usage) for an unknown name, naming those known, and for images too small for the model.
Model make_model(std::string_view name, const ModelSettings& settings);

}  // namespace lockstep
