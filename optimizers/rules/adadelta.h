// SPDX-License-Identifier: Apache-2.0
// Adadelta (Zeiler 2012): the root mean square of past moves over that of past gradients replaces a rate.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "kernels/host_device.h"
#include "optimizers/optimizer.h"

namespace lockstep {

// G += (g^2 - G) (1 - rho);  d = sqrt(D + epsilon) / sqrt(G + epsilon) g;  D += (d^2 - D) (1 - rho);  w -= a d
struct Adadelta {
  double rho = 0.95, epsilon = 1e-7;

  static constexpr std::array slots = {Slot{.name = "accumulated_grad"}, Slot{.name = "accumulated_delta_var"}};

  template <class Real>
  struct Update {
    Real one_minus_rho, epsilon, rate;
    HOST_DEVICE void operator()(Real& param, Real grad, Real& grads, Real& moves) const {
      grads += (grad * grad - grads) * one_minus_rho;
      const Real move = std::sqrt(moves + epsilon) * grad / std::sqrt(grads + epsilon);
      moves += (move * move - moves) * one_minus_rho;
      param -= rate * move;
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t /*step*/, double learning_rate) const {
    return {Real(1 - rho), Real(epsilon), Real(learning_rate)};
  }
};

}  // namespace lockstep
