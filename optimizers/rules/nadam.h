// SPDX-License-Identifier: Apache-2.0
// Nadam (Dozat 2016): Adam with Nesterov's momentum, whose coefficient grows along a fixed schedule.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <span>

#include "kernels/host_device.h"
#include "optimizers/optimizer.h"
#include "optimizers/rules/adam.h"

namespace lockstep {

// mu_t = b1 (1 - 0.96^(t d) / 2);  U = mu_1 ... mu_t;  m, v as Adam;
// w -= a (mu_(t+1) m / (1 - U mu_(t+1)) + (1 - mu_t) g / (1 - U)) / (sqrt(v / (1 - b2^t)) + epsilon)
// Keras: d = 1; PyTorch: d = 0.004.
struct Nadam {
  AdamHyperparameters adam;
  double momentum_base = 0.96;  // 0.96^d, so that its powers are whole

  static constexpr std::array slots = {Slot{.name = "momentum"}, Slot{.name = "velocity"}};
  static constexpr std::array scalars = {ScalarState{.name = "u_product", .initial = 1}};

  HOST_DEVICE double momentum_at(int64_t step) const { return adam.beta_1 * (1 - 0.5 * power(momentum_base, step)); }

  HOST_DEVICE void advance(int64_t step, double /*learning_rate*/, std::span<double> scalars) const {
    scalars[0] *= momentum_at(step);
  }

  template <class Real>
  struct Update {
    Real one_minus_beta_1, one_minus_beta_2, rate_of_momentum, rate_of_gradient, epsilon;
    HOST_DEVICE void operator()(Real& param, Real grad, Real& m, Real& v) const {
      m += (grad - m) * one_minus_beta_1;
      v += (grad * grad - v) * one_minus_beta_2;
      param -= (rate_of_momentum * m + rate_of_gradient * grad) / (std::sqrt(v) + epsilon);
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t step, double learning_rate, std::span<const double> scalars) const {
    const double mu = momentum_at(step), next = momentum_at(step + 1), product = scalars[0];
    // Numerator and denominator are multiplied by the root's correction: both definitions have PyTorch's epsilon.
    const double correction = adam.root_correction(step), rate = learning_rate * correction;
    return {Real(1 - adam.beta_1), Real(1 - adam.beta_2), Real(rate * next / (1 - product * next)),
            Real(rate * (1 - mu) / (1 - product)), Real(adam.epsilon_at(step))};
  }
};

}  // namespace lockstep
