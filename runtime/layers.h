// SPDX-License-Identifier: Apache-2.0
// Layers: the variables of one building block, and a call.
#pragma once

#include <string>

#include "runtime/ops.h"
#include "runtime/variables.h"

namespace lockstep {

// x . weight + bias, declared as NAME/weight [inputs, outputs] and NAME/bias [outputs].
class Linear {
 public:
  Linear(VariableTable& variables, const std::string& name, int64_t inputs, int64_t outputs)
      : weight_(variables.parameter(name + "/weight", {inputs, outputs}, Initializer::glorot_uniform(inputs, outputs))),
        bias_(variables.parameter(name + "/bias", {outputs}, Initializer::constant(0))) {}

  Tensor operator()(Call call, const Tensor& x) const {
    return linear(call, x, call.context.value(weight_), call.context.value(bias_));
  }

 private:
  Variable weight_, bias_;
};

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
