// SPDX-License-Identifier: Apache-2.0
// Adamax (Kingma & Ba 2015): Adam with the largest decayed gradient in place of the second moment.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "kernels/host_device.h"
#include "kernels/math.h"
#include "optimizers/optimizer.h"
#include "optimizers/rules/formula_style.h"

namespace lockstep {

// m += (g - m) (1 - b1);  u = max(b2 u, |g|);  w -= a / (1 - b1^t) * m / (u + epsilon)
// PyTorch: u = max(b2 u, |g| + epsilon);  w -= a / (1 - b1^t) * m / u
struct Adamax {
  double beta_1 = 0.9, beta_2 = 0.999, epsilon = 1e-7;
  FormulaStyle definition = FormulaStyle::keras;

  static constexpr std::array slots = {Slot{.name = "momentum"}, Slot{.name = "norm"}};

  template <class Real>
  struct Update {
    Real one_minus_beta_1, beta_2, rate, epsilon_of_gradient, epsilon_of_norm;
    HOST_DEVICE void operator()(Real& param, Real grad, Real& m, Real& norm) const {
      m += (grad - m) * one_minus_beta_1;
      const Real decayed = beta_2 * norm, size = std::abs(grad) + epsilon_of_gradient;
      norm = decayed > size ? decayed : size;
      param -= rate * m / (norm + epsilon_of_norm);
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t step, double learning_rate) const {
    const double rate = learning_rate / (1 - power(beta_1, step));
    const bool torch = definition == FormulaStyle::torch;
    return {Real(1 - beta_1), Real(beta_2), Real(rate), Real(torch ? epsilon : 0), Real(torch ? 0 : epsilon)};
  }
};

}  // namespace lockstep
