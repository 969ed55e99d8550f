// SPDX-License-Identifier: Apache-2.0
// Where Keras and PyTorch place epsilon and the learning rate. The formula has both places, and the unused one holds
// its neutral value, so that one loop serves both definitions without a branch.
#pragma once

#include "kernels/host_device.h"

namespace lockstep {

enum class FormulaStyle { keras, torch };

template <class Real>
struct Placed {
  Real inside, outside;
};

// sqrt(v + inside) + outside: Keras has epsilon inside the root, PyTorch outside.
template <class Real>
HOST_DEVICE Placed<Real> place_epsilon(double epsilon, FormulaStyle definition) {
  if (definition == FormulaStyle::torch) return {Real(0), Real(epsilon)};
  return {Real(epsilon), Real(0)};
}

// m = mu m + inside * move;  w -= outside * m. Keras has the rate inside, so that a change of the rate does not rescale
// what is remembered; PyTorch has it outside.
template <class Real>
HOST_DEVICE Placed<Real> place_rate(double learning_rate, FormulaStyle definition) {
  if (definition == FormulaStyle::torch) return {Real(1), Real(learning_rate)};
  return {Real(learning_rate), Real(1)};
}

}  // namespace lockstep
