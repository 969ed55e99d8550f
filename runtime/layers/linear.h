// SPDX-License-Identifier: Apache-2.0
// The fully connected layer: its variables, and a call.
#pragma once

#include <string>

#include "runtime/ops/ops.h"
#include "runtime/variables/variables.h"

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

}  // namespace lockstep
