// SPDX-License-Identifier: Apache-2.0
// A multilayer perceptron for images.
#pragma once

#include "runtime/models/model.h"

namespace lockstep {

// 784 - 512 - 512 - 10 with ReLU.
Model make_mlp(const ModelSettings& settings);

}  // namespace lockstep
