// SPDX-License-Identifier: Apache-2.0
// Adam (Kingma & Ba 2015) and AMSGrad (Reddi et al. 2018). Keras' definitions: epsilon stands outside the bias
// correction, and AMSGrad takes its maximum over the uncorrected second moment.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "kernels/host_device.h"
#include "optimizers/optimizer.h"

namespace lockstep {

// What one step of Adam needs besides the moments.
struct AdamConstants {
  float one_minus_beta_1, one_minus_beta_2, rate, epsilon;
};

struct AdamHyperparameters {
  double beta_1 = 0.9, beta_2 = 0.999, epsilon = 1e-7;

  // In double, from the whole step number: a float holds 1 - 0.999 to five digits only and counts no further than 2^24.
  AdamConstants at(int64_t step, double learning_rate) const {
    const double t = double(step);
    const double rate = learning_rate * std::sqrt(1 - std::pow(beta_2, t)) / (1 - std::pow(beta_1, t));
    return {float(1 - beta_1), float(1 - beta_2), float(rate), float(epsilon)};
  }
};

// m += (g - m) (1 - b1);  v += (g^2 - v) (1 - b2);  w -= a sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)
struct Adam {
  AdamHyperparameters hyperparameters;

  static constexpr std::array slots = {Slot{.name = "momentum"}, Slot{.name = "velocity"}};

  struct Update {
    AdamConstants c;
    HOST_DEVICE void operator()(float& param, float grad, float& m, float& v) const {
      m += (grad - m) * c.one_minus_beta_1;
      v += (grad * grad - v) * c.one_minus_beta_2;
      param -= c.rate * m / (std::sqrt(v) + c.epsilon);
    }
  };

  Update at(int64_t step, double learning_rate) const { return {hyperparameters.at(step, learning_rate)}; }
};

// As Adam, but divides by the largest second moment seen so far.
struct AdamAmsgrad {
  AdamHyperparameters hyperparameters;

  static constexpr std::array slots = {Slot{.name = "momentum"}, Slot{.name = "velocity"},
                                       Slot{.name = "velocity_hat"}};

  struct Update {
    AdamConstants c;
    HOST_DEVICE void operator()(float& param, float grad, float& m, float& v, float& v_hat) const {
      m += (grad - m) * c.one_minus_beta_1;
      v += (grad * grad - v) * c.one_minus_beta_2;
      v_hat = v > v_hat ? v : v_hat;
      param -= c.rate * m / (std::sqrt(v_hat) + c.epsilon);
    }
  };

  Update at(int64_t step, double learning_rate) const { return {hyperparameters.at(step, learning_rate)}; }
};

}  // namespace lockstep
