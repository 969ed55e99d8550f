// SPDX-License-Identifier: Apache-2.0
// Adagrad (Duchi et al. 2011): steps shrink with the sum of all squared gradients.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "kernels/host_device.h"
#include "optimizers/optimizer.h"
#include "optimizers/rules/formula_style.h"

namespace lockstep {

// n += g^2;  w -= a g / sqrt(n + epsilon)
struct Adagrad {
  double epsilon = 1e-7;
  FormulaStyle definition = FormulaStyle::keras;
  std::array<Slot, 1> slots = {Slot{.name = "accumulator", .initial = 0.1f}};

  template <class Real>
  struct Update {
    Real rate;
    Placed<Real> epsilon;
    HOST_DEVICE void operator()(Real& param, Real grad, Real& accumulator) const {
      accumulator += grad * grad;
      param -= rate * grad / (std::sqrt(accumulator + epsilon.inside) + epsilon.outside);
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t /*step*/, double learning_rate) const {
    return {Real(learning_rate), place_epsilon<Real>(epsilon, definition)};
  }
};

}  // namespace lockstep
