// SPDX-License-Identifier: Apache-2.0
// Layers that normalise rows: their variables, which weight decay leaves alone, and a call.
#pragma once

#include <string>

#include "runtime/ops/language.h"
#include "runtime/variables/variables.h"

namespace lockstep {

// layer_norm(), declared as NAME/weight and NAME/bias [width].
class LayerNormalization {
 public:
  LayerNormalization(VariableTable& variables, const std::string& name, int64_t width, float epsilon)
      : gain_(variables.undecayed_parameter(name + "/weight", {width}, Initializer::constant(1))),
        shift_(variables.undecayed_parameter(name + "/bias", {width}, Initializer::constant(0))),
        epsilon_(epsilon) {}

  Tensor operator()(Call call, const Tensor& x) const {
    return layer_norm(call, x, call.context.value(gain_), call.context.value(shift_), epsilon_);
  }

 private:
  Variable gain_, shift_;
  float epsilon_;
};

// rms_norm(), declared as NAME/weight [width].
class RmsNormalization {
 public:
  RmsNormalization(VariableTable& variables, const std::string& name, int64_t width, float epsilon)
      : gain_(variables.undecayed_parameter(name + "/weight", {width}, Initializer::constant(1))), epsilon_(epsilon) {}

  Tensor operator()(Call call, const Tensor& x) const { return rms_norm(call, x, call.context.value(gain_), epsilon_); }

 private:
  Variable gain_;
  float epsilon_;
};

}  // namespace lockstep
