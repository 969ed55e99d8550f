// SPDX-License-Identifier: Apache-2.0
// Ftrl (McMahan et al. 2013): follow the regularised leader, with L1, L2 and shrinkage. A parameter depends on its
// accumulators alone: its initial value counts in the first step only.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/host_device.h"
#include "kernels/math.h"
#include "optimizers/optimizer.h"

namespace lockstep {

// n^(1/2): the usual power costs only a root.
struct SquareRoot {
  template <class Real>
  HOST_DEVICE Real operator()(Real n) const {
    return std::sqrt(n);
  }
};

// n^e for n >= 0 and e >= 0
struct AnyPower {
  float exponent = 0.5f;

  HOST_DEVICE float operator()(float n) const {
    return exponent == 0 ? 1.0f : exp_f32(exponent * log_f32(n));  // for n = 0, exp(-infinity)
  }
};

struct FtrlHyperparameters {
  double l1 = 0, l2 = 0, l2_shrinkage = 0, beta = 0;
};

// This is named outside of the template, because nvcc 13 loses the element type inside.
using FtrlSlots = std::array<Slot, 2>;

// p: the power of n;  z += g + 2 shrinkage w - (p(n + g^2) - p(n)) / a * w;  n += g^2;
// w = (clip(z, -l1, l1) - z) / ((p(n) + beta) / a + 2 l2)
template <class Power>
struct FtrlRule {
  FtrlHyperparameters hyperparameters;
  Power power;
  FtrlSlots slots = {Slot{.name = "accumulator", .initial = 0.1f}, Slot{.name = "linear"}};

  template <class Real>
  struct Update {
    Real rate, inverse_rate, l1, rate_times_two_l2, two_shrinkage, beta;
    Power power;
    HOST_DEVICE void operator()(Real& param, Real grad, Real& accumulator, Real& linear) const {
      const Real total = accumulator + grad * grad;
      const Real strength = power(total), growth = strength - power(accumulator);
      const Real sum = linear + grad + (two_shrinkage - growth * inverse_rate) * param;
      const Real clipped = sum > l1 ? l1 : (sum < -l1 ? -l1 : sum);
      const Real curvature = strength + beta + rate_times_two_l2;
      const Real leader = (clipped - sum) * rate / curvature;
      // At a rate of zero, where schedules begin and end, the formula has no limit: such a step changes nothing. Zero
      // curvature means that there was no gradient yet.
      param = rate > 0 && curvature > 0 ? leader : param;
      linear = rate > 0 ? sum : linear;
      accumulator = rate > 0 ? total : accumulator;
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t /*step*/, double learning_rate) const {
    // Rates whose inverse is no float count as zero.
    const double rate = learning_rate < 1.0 / double(std::numeric_limits<float>::max()) ? 0 : learning_rate;
    const FtrlHyperparameters& h = hyperparameters;
    return {Real(rate),
            Real(rate == 0 ? 0 : 1 / rate),
            Real(h.l1),
            Real(rate * 2 * h.l2),
            Real(2 * h.l2_shrinkage),
            Real(h.beta),
            power};
  }
};

using Ftrl = FtrlRule<SquareRoot>;
using FtrlAnyPower = FtrlRule<AnyPower>;

}  // namespace lockstep
