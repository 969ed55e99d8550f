// SPDX-License-Identifier: Apache-2.0
// RAdam (Liu et al. 2020), in PyTorch's definition: Adam without its second moment as long as that is too uncertain.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "kernels/host_device.h"
#include "kernels/math.h"
#include "optimizers/optimizer.h"

namespace lockstep {

// m, v as Adam;  rho_inf = 2 / (1 - b2) - 1;  rho = rho_inf - 2 t b2^t / (1 - b2^t);
// w -= a m / (1 - b1^t) r sqrt(1 - b2^t) / (sqrt(v) + epsilon) with
// r^2 = (rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho) where rho > 5, else w -= a m / (1 - b1^t)
struct RAdam {
  double beta_1 = 0.9, beta_2 = 0.999, epsilon = 1e-8;

  static constexpr std::array slots = {Slot{.name = "momentum"}, Slot{.name = "velocity"}};

  template <class Real>
  struct Update {
    Real one_minus_beta_1, one_minus_beta_2, rate, epsilon;
    bool adapts;
    HOST_DEVICE void operator()(Real& param, Real grad, Real& m, Real& v) const {
      m += (grad - m) * one_minus_beta_1;
      v += (grad * grad - v) * one_minus_beta_2;
      param -= rate * m / (adapts ? std::sqrt(v) + epsilon : Real(1));
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t step, double learning_rate) const {
    const double correction_1 = 1 - power(beta_1, step), left = power(beta_2, step), correction_2 = 1 - left;
    const double rho_inf = 2 / (1 - beta_2) - 1, rho = rho_inf - 2 * double(step) * left / correction_2;
    const bool adapts = rho > 5;
    double rate = learning_rate / correction_1;
    if (adapts)
      rate *= std::sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho) * correction_2);
    return {Real(1 - beta_1), Real(1 - beta_2), Real(rate), Real(epsilon), adapts};
  }
};

}  // namespace lockstep
