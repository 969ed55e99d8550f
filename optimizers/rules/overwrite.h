// SPDX-License-Identifier: Apache-2.0
// A rule for variables that are no weights but come out of the backward pass anew each time, such as scales of narrow
// formats (Keras' overwrite_with_gradient): the gradient itself becomes the value. Like every gradient it is the mean
// over the batch, whatever the number of micro-batches; Keras takes the maximum over micro-batches.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/host_device.h"
#include "optimizers/optimizer.h"

namespace lockstep {

// w = g, which is neither unscaled nor clipped, and has no weight decay.
struct Overwrite {
  static constexpr std::array<Slot, 0> slots = {};
  static constexpr bool takes_raw_gradients = true;

  template <class Real>
  struct Update {
    HOST_DEVICE void operator()(Real& param, Real grad) const { param = grad; }
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t, double) const {
    return {};
  }
};

}  // namespace lockstep
