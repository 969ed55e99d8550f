// SPDX-License-Identifier: Apache-2.0
// Gradient descent: plain, with momentum, with Nesterov's momentum.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/host_device.h"
#include "optimizers/optimizer.h"
#include "optimizers/rules/formula_style.h"

namespace lockstep {

// w -= a g
struct Sgd {
  static constexpr std::array<Slot, 0> slots = {};

  template <class Real>
  struct Update {
    Real rate;
    HOST_DEVICE void operator()(Real& param, Real grad) const { param -= rate * grad; }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t /*step*/, double learning_rate) const {
    return {Real(learning_rate)};
  }
};

// v = mu v - a g;  w += v
struct SgdMomentum {
  double momentum = 0.9;
  FormulaStyle definition = FormulaStyle::keras;

  static constexpr std::array slots = {Slot{.name = "momentum"}};

  template <class Real>
  struct Update {
    Placed<Real> rate;
    Real momentum;
    HOST_DEVICE void operator()(Real& param, Real grad, Real& velocity) const {
      velocity = momentum * velocity - rate.inside * grad;
      param += rate.outside * velocity;
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t /*step*/, double learning_rate) const {
    return {place_rate<Real>(learning_rate, definition), Real(momentum)};
  }
};

// v = mu v - a g;  w += mu v - a g  with the new v
struct SgdNesterov {
  double momentum = 0.9;
  FormulaStyle definition = FormulaStyle::keras;

  static constexpr std::array slots = {Slot{.name = "momentum"}};

  template <class Real>
  struct Update {
    Placed<Real> rate;
    Real momentum;
    HOST_DEVICE void operator()(Real& param, Real grad, Real& velocity) const {
      const Real pull = rate.inside * grad;
      velocity = momentum * velocity - pull;
      param += rate.outside * (momentum * velocity - pull);
    }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t /*step*/, double learning_rate) const {
    return {place_rate<Real>(learning_rate, definition), Real(momentum)};
  }
};

}  // namespace lockstep
