// SPDX-License-Identifier: Apache-2.0
// RMSprop (Tieleman & Hinton 2012), with or without momentum: the gradient over its running root mean square, or, if
// centered (Graves 2013), over its standard deviation.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "kernels/host_device.h"
#include "optimizers/optimizer.h"
#include "optimizers/rules/formula_style.h"

namespace lockstep {

template <class Real>
struct RmspropConstants {
  Real one_minus_rho, momentum;
  Placed<Real> rate, epsilon;
};

struct RmspropHyperparameters {
  double rho = 0.9, momentum = 0, epsilon = 1e-7;
  FormulaStyle definition = FormulaStyle::keras;

  template <class Real = float>
  HOST_DEVICE RmspropConstants<Real> at(double learning_rate) const {
    return {Real(1 - rho), Real(momentum), place_rate<Real>(learning_rate, definition),
            place_epsilon<Real>(epsilon, definition)};
  }
};

// g / sqrt(v + epsilon)
template <class Real>
HOST_DEVICE inline Real rmsprop_move(const RmspropConstants<Real>& c, Real grad, Real& v) {
  v += (grad * grad - v) * c.one_minus_rho;
  return grad / (std::sqrt(v + c.epsilon.inside) + c.epsilon.outside);
}

// g / sqrt(v - mean(g)^2 + epsilon). A constant gradient makes the difference zero up to rounding, which may take it
// below zero by more than epsilon.
template <class Real>
HOST_DEVICE inline Real rmsprop_centered_move(const RmspropConstants<Real>& c, Real grad, Real& v, Real& mean) {
  v += (grad * grad - v) * c.one_minus_rho;
  mean += (grad - mean) * c.one_minus_rho;
  const Real difference = v - mean * mean;
  const Real variance = difference > 0 ? difference : Real(0);
  return grad / (std::sqrt(variance + c.epsilon.inside) + c.epsilon.outside);
}

// v += (g^2 - v) (1 - rho);  w -= a g / sqrt(v + epsilon)
struct Rmsprop {
  RmspropHyperparameters hyperparameters;

  static constexpr std::array slots = {Slot{.name = "velocity"}};

  template <class Real>
  struct Update {
    RmspropConstants<Real> c;
    HOST_DEVICE void operator()(Real& param, Real grad, Real& v) const {
      param -= c.rate.outside * (c.rate.inside * rmsprop_move(c, grad, v));
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t /*step*/, double learning_rate) const {
    return {hyperparameters.at<Real>(learning_rate)};
  }
};

// m = mu m + a g / sqrt(v + epsilon);  w -= m
struct RmspropMomentum {
  RmspropHyperparameters hyperparameters;

  static constexpr std::array slots = {Slot{.name = "velocity"}, Slot{.name = "momentum"}};

  template <class Real>
  struct Update {
    RmspropConstants<Real> c;
    HOST_DEVICE void operator()(Real& param, Real grad, Real& v, Real& m) const {
      m = c.momentum * m + c.rate.inside * rmsprop_move(c, grad, v);
      param -= c.rate.outside * m;
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t /*step*/, double learning_rate) const {
    return {hyperparameters.at<Real>(learning_rate)};
  }
};

struct RmspropCentered {
  RmspropHyperparameters hyperparameters;

  static constexpr std::array slots = {Slot{.name = "velocity"}, Slot{.name = "average_gradient"}};

  template <class Real>
  struct Update {
    RmspropConstants<Real> c;
    HOST_DEVICE void operator()(Real& param, Real grad, Real& v, Real& mean) const {
      param -= c.rate.outside * (c.rate.inside * rmsprop_centered_move(c, grad, v, mean));
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t /*step*/, double learning_rate) const {
    return {hyperparameters.at<Real>(learning_rate)};
  }
};

struct RmspropCenteredMomentum {
  RmspropHyperparameters hyperparameters;

  static constexpr std::array slots = {Slot{.name = "velocity"}, Slot{.name = "momentum"},
                                       Slot{.name = "average_gradient"}};

  template <class Real>
  struct Update {
    RmspropConstants<Real> c;
    HOST_DEVICE void operator()(Real& param, Real grad, Real& v, Real& m, Real& mean) const {
      m = c.momentum * m + c.rate.inside * rmsprop_centered_move(c, grad, v, mean);
      param -= c.rate.outside * m;
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t /*step*/, double learning_rate) const {
    return {hyperparameters.at<Real>(learning_rate)};
  }
};

}  // namespace lockstep
