// SPDX-License-Identifier: Apache-2.0
// Lion (Chen et al. 2023): every element moves by the rate in the direction of an interpolated momentum.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/host_device.h"
#include "optimizers/optimizer.h"

namespace lockstep {

// w -= a sign(b1 m + (1 - b1) g);  m = b2 m + (1 - b2) g
struct Lion {
  double beta_1 = 0.9, beta_2 = 0.99;

  static constexpr std::array slots = {Slot{.name = "momentum"}};

  template <class Real>
  struct Update {
    Real one_minus_beta_1, one_minus_beta_2, rate;
    HOST_DEVICE void operator()(Real& param, Real grad, Real& m) const {
      const Real direction = m + (grad - m) * one_minus_beta_1;
      param -= direction > 0 ? rate : (direction < 0 ? -rate : Real(0));
      m += (grad - m) * one_minus_beta_2;
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t /*step*/, double learning_rate) const {
    return {Real(1 - beta_1), Real(1 - beta_2), Real(learning_rate)};
  }
};

}  // namespace lockstep
