// SPDX-License-Identifier: Apache-2.0
// The model that the options of a command choose: a shipped one, with settings of the user's own.
#pragma once

#include <optional>
#include <string>

#include "runtime/models/model_list.h"
#include "tools/training/train_options.h"

namespace lockstep {

// The complete settings of a language model; none for a model of images. Error(usage) for settings that do not fit
// together, and for settings of a language model where another model is chosen.
std::optional<TransformerSettings> language_settings(const ModelOptions& options);

// The tokens of a sample: `asked`, or all that the model can take where that is 0. Error(usage) if it takes fewer.
int64_t sequence_of(const TransformerSettings& settings, int64_t asked);

// `images` is for models of images, which take the dropout of `options`, too. Error(usage) for an unknown name.
Model make_chosen_model(const ModelOptions& options, ModelSettings images);

// Name and settings, all that decides numbers.
std::string model_text(const ModelOptions& options);

}  // namespace lockstep
