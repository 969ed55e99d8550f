// SPDX-License-Identifier: Apache-2.0
// Schedule-free AdamW (Defazio et al. 2024): gradients are taken between a fast iterate z and its average x, which
// makes a decaying rate needless.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "kernels/host_device.h"
#include "kernels/math.h"
#include "optimizers/optimizer.h"

namespace lockstep {

// a_t = a min(t / warmup, 1);  v as Adam;  z' = z - a_t g / (sqrt(v / (1 - b2^t)) + epsilon);
// x = (w - (1 - b1) z) / b1;  x' = (1 - 1/t) x + z' / t;  w = (1 - b1) z' + b1 x'
//
// This is computed without x: w - z = b1 (x - z), so w' - z' = b1 (x' - z') = (1 - 1/t) (w - z + b1 (z - z')). It is
// exact where nothing moves, and never divides by b1.
struct ScheduleFreeAdamW {
  double beta_1 = 0.9, beta_2 = 0.999, epsilon = 1e-8;
  int64_t warmup_steps = 0;

  static constexpr std::array slots = {Slot{.name = "momentum", .starts_as_parameter = true}, Slot{.name = "velocity"}};

  template <class Real>
  struct Update {
    Real beta_1, one_minus_beta_2, rate, inverse_correction, epsilon, kept;
    HOST_DEVICE void operator()(Real& param, Real grad, Real& z, Real& v) const {
      v += (grad * grad - v) * one_minus_beta_2;
      const Real move = rate * grad / (std::sqrt(v) * inverse_correction + epsilon);
      const Real distance = param - z + beta_1 * move;
      z -= move;
      param = z + kept * distance;
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t step, double learning_rate) const {
    const double t = double(step);
    const double rate = learning_rate * std::min(t / std::max(1.0, double(warmup_steps)), 1.0);
    return {Real(beta_1),  Real(1 - beta_2), Real(rate), Real(1 / std::sqrt(1 - power(beta_2, step))),
            Real(epsilon), Real(1 - 1 / t)};
  }
};

}  // namespace lockstep
