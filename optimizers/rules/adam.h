// SPDX-License-Identifier: Apache-2.0
// Adam (Kingma & Ba 2015) and AMSGrad (Reddi et al. 2018). In Keras' definition epsilon stands outside the bias
// correction, in PyTorch's inside; AMSGrad takes its maximum over the uncorrected second moment in both.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/host_device.h"
#include "kernels/math.h"
#include "optimizers/optimizer.h"
#include "optimizers/rules/formula_style.h"

namespace lockstep {

// The numbers that one step of Adam needs besides the moments.
template <class Real>
struct AdamConstants {
  Real one_minus_beta_1, one_minus_beta_2, rate, epsilon;
};

struct AdamHyperparameters {
  double beta_1 = 0.9, beta_2 = 0.999, epsilon = 1e-7;
  FormulaStyle definition = FormulaStyle::keras;

  // The factor that the root of the second moment lacks while it is young.
  HOST_DEVICE double root_correction(int64_t step) const { return std::sqrt(1 - power(beta_2, step)); }

  // Epsilon as it is added to the uncorrected root: PyTorch's sqrt(v) / c + epsilon is (sqrt(v) + epsilon c) / c. It
  // must not vanish as a float, because an element that never saw a gradient would be 0 / 0.
  HOST_DEVICE double epsilon_at(int64_t step) const {
    if (definition == FormulaStyle::keras) return epsilon;
    return std::max(epsilon * root_correction(step), double(std::numeric_limits<float>::min()));
  }

  // Computes in double from the whole step number: a float holds 1 - 0.999 to five digits and counts only to 2^24.
  template <class Real = float>
  HOST_DEVICE AdamConstants<Real> at(int64_t step, double learning_rate) const {
    const double rate = learning_rate * root_correction(step) / (1 - power(beta_1, step));
    return {Real(1 - beta_1), Real(1 - beta_2), Real(rate), Real(epsilon_at(step))};
  }
};

// m += (g - m) (1 - b1);  v += (g^2 - v) (1 - b2);  w -= a sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)
struct Adam {
  AdamHyperparameters hyperparameters;

  static constexpr std::array slots = {Slot{.name = "momentum"}, Slot{.name = "velocity"}};

  template <class Real>
  struct Update {
    AdamConstants<Real> c;
    HOST_DEVICE void operator()(Real& param, Real grad, Real& m, Real& v) const {
      m += (grad - m) * c.one_minus_beta_1;
      v += (grad * grad - v) * c.one_minus_beta_2;
      param -= c.rate * m / (std::sqrt(v) + c.epsilon);
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t step, double learning_rate) const {
    return {hyperparameters.at<Real>(step, learning_rate)};
  }
};

// Adam that divides by the largest second moment seen so far.
struct AdamAmsgrad {
  AdamHyperparameters hyperparameters;

  static constexpr std::array slots = {Slot{.name = "momentum"}, Slot{.name = "velocity"},
                                       Slot{.name = "velocity_hat"}};

  template <class Real>
  struct Update {
    AdamConstants<Real> c;
    HOST_DEVICE void operator()(Real& param, Real grad, Real& m, Real& v, Real& v_hat) const {
      m += (grad - m) * c.one_minus_beta_1;
      v += (grad * grad - v) * c.one_minus_beta_2;
      v_hat = v > v_hat ? v : v_hat;
      param -= c.rate * m / (std::sqrt(v_hat) + c.epsilon);
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t step, double learning_rate) const {
    return {hyperparameters.at<Real>(step, learning_rate)};
  }
};

}  // namespace lockstep
