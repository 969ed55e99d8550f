// SPDX-License-Identifier: Apache-2.0
// Layers that normalise rows: their variables, which weight decay leaves alone, and a call.
#pragma once

#include <optional>
#include <string>

#include "runtime/ops/language.h"
#include "runtime/variables/variables.h"

namespace lockstep {

// x + y, not added yet: the norm that comes next does that along the way. Without y it is x.
struct Residual {
  Tensor x;
  std::optional<Tensor> y = std::nullopt;
};

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
  // The residual's sum, and the norm of that. By value: what was added may go back to the pool.
  SumAndNorm operator()(Call call, Residual r) const {
    if (!r.y) return {r.x, (*this)(call, r.x)};
    return add_layer_norm(call, r.x, *r.y, call.context.value(gain_), call.context.value(shift_), epsilon_);
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
  SumAndNorm operator()(Call call, Residual r) const {  // as above
    if (!r.y) return {r.x, (*this)(call, r.x)};
    return add_rms_norm(call, r.x, *r.y, call.context.value(gain_), epsilon_);
  }

 private:
  Variable gain_;
  float epsilon_;
};

}  // namespace lockstep
