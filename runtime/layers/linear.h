// SPDX-License-Identifier: Apache-2.0
// Fully connected layers: their variables, and a call.
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
  // The same with other first values, and a bias that weight decay leaves alone.
  Linear(VariableTable& variables, const std::string& name, int64_t inputs, int64_t outputs, Initializer weight)
      : weight_(variables.parameter(name + "/weight", {inputs, outputs}, weight)),
        bias_(variables.undecayed_parameter(name + "/bias", {outputs}, Initializer::constant(0))) {}

  Tensor operator()(Call call, const Tensor& x) const {
    return linear(call, x, call.context.value(weight_), call.context.value(bias_));
  }
  Tensor with_gelu(Call call, const Tensor& x) const {
    return linear_gelu(call, x, call.context.value(weight_), call.context.value(bias_));
  }

 private:
  Variable weight_, bias_;
};

// x . weight transposed, without a bias, declared as NAME/weight [outputs, inputs]: as PyTorch and its files have it.
class Projection {
 public:
  Projection(VariableTable& variables, const std::string& name, int64_t inputs, int64_t outputs, Initializer weight)
      : weight_(variables.parameter(name + "/weight", {outputs, inputs}, weight)) {}

  Tensor operator()(Call call, const Tensor& x) const {
    return matmul_transposed(call, x, call.context.value(weight_));
  }

 private:
  Variable weight_;
};

}  // namespace lockstep
