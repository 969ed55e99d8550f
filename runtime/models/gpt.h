// SPDX-License-Identifier: Apache-2.0
// The GPT-2 family (Radford et al. 2019): learned positions, layer norms in front, GELU in its tanh form.
#pragma once

#include "runtime/models/transformer.h"

namespace lockstep {

// Variables are named and laid out as in the files of Hugging Face, with / in place of the dots. The settings are
// complete.
Model make_gpt(std::string_view name, const TransformerSettings& settings);

}  // namespace lockstep
