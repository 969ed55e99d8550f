// SPDX-License-Identifier: Apache-2.0
// The convolutional layer: its variables, and a call.
#pragma once

#include <string>

#include "runtime/ops/ops.h"
#include "runtime/variables/variables.h"

namespace lockstep {

// Convolution with square kernels, declared as NAME/weight [kernel, kernel, channels, out_channels] and NAME/bias.
class Convolution {
 public:
  Convolution(VariableTable& variables, const std::string& name, int64_t kernel, int64_t channels, int64_t out_channels,
              const Conv2dGeometry& geometry = {})
      : weight_(variables.parameter(
            name + "/weight", {kernel, kernel, channels, out_channels},
            Initializer::glorot_uniform(kernel * kernel * channels, kernel * kernel * out_channels))),
        bias_(variables.parameter(name + "/bias", {out_channels}, Initializer::constant(0))),
        geometry_(geometry) {}

  Tensor operator()(Call call, const Tensor& x) const {
    return conv2d(call, x, call.context.value(weight_), call.context.value(bias_), geometry_);
  }

 private:
  Variable weight_, bias_;
  Conv2dGeometry geometry_;
};

}  // namespace lockstep
