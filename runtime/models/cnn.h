// SPDX-License-Identifier: Apache-2.0
// A convolutional network for images.
#pragma once

#include "runtime/models/model.h"

namespace lockstep {

// Two 3 x 3 convolutions of 32 and 64 channels, 2 x 2 max pooling, a dense layer of 128.
Model make_cnn(const ModelSettings& settings);

}  // namespace lockstep
