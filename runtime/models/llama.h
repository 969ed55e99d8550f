// SPDX-License-Identifier: Apache-2.0
// The Llama family (Touvron et al. 2023): rotary positions, RMS norms in front, SwiGLU, heads that share keys and
// values.
#pragma once

#include "runtime/models/transformer.h"

namespace lockstep {

// Variables are named and laid out as in the files of Hugging Face, with / in place of the dots. The settings are
// complete.
Model make_llama(std::string_view name, const TransformerSettings& settings);

}  // namespace lockstep
