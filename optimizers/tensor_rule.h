// SPDX-License-Identifier: Apache-2.0
// Shared by kernels of rules whose step for one element depends on the whole tensor (lamb.h, adafactor.h, muon.h).
//
// Such a rule has scratch_bytes(shape), and update(stream, PreparedUpdate<Rule>) queues the launches of a step. Sums
// over a tensor are taken in double by chunks from its first element on, and chunks are added in one order, so bits
// depend on values and shape alone.
#pragma once

#include "kernels/chunk_squares.h"
#include "kernels/host_device.h"
#include "kernels/launch.h"
#include "optimizers/gradient_transform.h"
#include "optimizers/update_kernels.h"

namespace lockstep {

// Tells a kernel that works on one tensor where to find what makes its gradients ready. All pointers are to memory of
// the device.
template <class Rule>
struct TensorGradient {
  const RuleConstants<Rule>* constants;
  const StepScalars* decision;
  GranuleMap granules;
  HOST_DEVICE explicit TensorGradient(const PreparedUpdate<Rule>& u)
      : constants(u.constants), decision(u.decision), granules(u.granules) {}

  // Holds the same in registers.
  struct Loaded {
    GradientTransform transform;
    float factor;
    HOST_DEVICE float operator()(float& param, float grad) const { return transform(param, grad, factor); }
  };
  HOST_DEVICE Loaded load() const {
    return {GradientTransform(*decision, constants->decay, constants->l2),
            granules.factors ? granules.factors[*granules.variable_of] : 1.0f};
  }
};

// The chunks of a tensor, and the sums over them, which are pairs of doubles.
struct TensorSums {
  double* sums;  // [chunks][2]
  int64_t elements;
  HOST_DEVICE SquareChunks all() const { return {elements}; }
  HOST_DEVICE int64_t chunks() const { return all().count(); }
  HOST_DEVICE int64_t begin(int64_t chunk) const { return all().begin(chunk); }
  HOST_DEVICE int64_t size(int64_t chunk) const { return all().end(chunk) - begin(chunk); }
  template <class Team>
  HOST_DEVICE double total(const Team& team, int which) const {
    return team.template sum<double>(chunks(), [&](int64_t c) { return sums[2 * c + which]; });
  }
};
inline int64_t tensor_sums_bytes(int64_t elements) {
  return scratch_piece(2 * int64_t(sizeof(double)) * SquareChunks{elements}.count());
}

}  // namespace lockstep
