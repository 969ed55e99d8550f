// SPDX-License-Identifier: Apache-2.0
// Gradient descent: plain, with momentum, with Nesterov's momentum. Keras' definitions: the learning rate is inside
// the momentum, so a change of the rate does not rescale what is remembered.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/host_device.h"
#include "optimizers/optimizer.h"

namespace lockstep {

// w -= a g
struct Sgd {
  static constexpr std::array<Slot, 0> slots = {};

  struct Update {
    float rate;
    HOST_DEVICE void operator()(float& param, float grad) const { param -= rate * grad; }
  };

  Update at(int64_t /*step*/, double learning_rate) const { return {float(learning_rate)}; }
};

// v = mu v - a g;  w += v
struct SgdMomentum {
  double momentum = 0.9;

  static constexpr std::array slots = {Slot{.name = "momentum"}};

  struct Update {
    float rate, momentum;
    HOST_DEVICE void operator()(float& param, float grad, float& velocity) const {
      velocity = momentum * velocity - rate * grad;
      param += velocity;
    }
  };

  Update at(int64_t /*step*/, double learning_rate) const { return {float(learning_rate), float(momentum)}; }
};

// v = mu v - a g;  w += mu v - a g  with the new v
struct SgdNesterov {
  double momentum = 0.9;

  static constexpr std::array slots = {Slot{.name = "momentum"}};

  struct Update {
    float rate, momentum;
    HOST_DEVICE void operator()(float& param, float grad, float& velocity) const {
      const float pull = rate * grad;
      velocity = momentum * velocity - pull;
      param += momentum * velocity - pull;
    }
  };

  Update at(int64_t /*step*/, double learning_rate) const { return {float(learning_rate), float(momentum)}; }
};

}  // namespace lockstep
