// SPDX-License-Identifier: Apache-2.0
// Lamb (You et al. 2020), in Keras' definition: Adam's direction at the length of the tensor. Weight decay comes before
// and is no part of the direction.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "kernels/math.h"
#include "optimizers/tensor_rule.h"

namespace lockstep {

// m, v as Adam; u = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon);  w -= a |w| / |u| u, or a u where either is 0
struct Lamb {
  double beta_1 = 0.9, beta_2 = 0.999, epsilon = 1e-7;

  static constexpr std::array slots = {Slot{.name = "momentum"}, Slot{.name = "velocity"}};

  template <class Real>
  struct Update {
    Real one_minus_beta_1, one_minus_beta_2, momentum_correction, velocity_correction, epsilon, rate;
    HOST_DEVICE void moments(Real grad, Real& m, Real& v) const {
      m += (grad - m) * one_minus_beta_1;
      v += (grad * grad - v) * one_minus_beta_2;
    }
    HOST_DEVICE Real direction(Real m, Real v) const {
      return m * momentum_correction / (std::sqrt(v * velocity_correction) + epsilon);
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t step, double learning_rate) const {
    return {
        Real(1 - beta_1), Real(1 - beta_2),   Real(1 / (1 - power(beta_1, step))), Real(1 / (1 - power(beta_2, step))),
        Real(epsilon),    Real(learning_rate)};
  }

  int64_t scratch_bytes(const Shape& shape) const;
  void update(Stream& stream, const PreparedUpdate<Lamb>& step) const;
};

// The launches of a step: moments, with squares of parameter and direction by chunk; their ratio; the parameter.
struct LambMoments {
  PreparedUpdate<Lamb> step;
};
struct LambRatio {
  PreparedUpdate<Lamb> step;
};
struct LambApply {
  PreparedUpdate<Lamb> step;
};
void run(Cpu, Stream&, const LambMoments&);
void run(Cuda, Stream&, const LambMoments&);
void run(Cpu, Stream&, const LambRatio&);
void run(Cuda, Stream&, const LambRatio&);
void run(Cpu, Stream&, const LambApply&);
void run(Cuda, Stream&, const LambApply&);

}  // namespace lockstep
