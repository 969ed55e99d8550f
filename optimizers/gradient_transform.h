// SPDX-License-Identifier: Apache-2.0
// What every optimizer does to one element before its rule, for ranges and whole tensors alike, because the order of
// these few operations decides bits.
#pragma once

#include "kernels/host_device.h"
#include "optimizers/optimizer.h"

namespace lockstep {

// Clips a gradient by value, unscales it, and applies weight decay: to the parameter if decoupled (Loshchilov & Hutter
// 2019), to the gradient if coupled.
struct GradientTransform {
  float limit;  // limit of absolute values; 0 is none
  float scale;
  float decay;  // learning rate times decoupled weight decay
  float l2;     // coupled weight decay

  HOST_DEVICE GradientTransform(const StepScalars& decision, float decay_of_step, float l2_of_step)
      : limit(decision.clip_value), scale(decision.grad_scale), decay(decay_of_step), l2(l2_of_step) {}

  // Returns the gradient that the rule takes. `factor` is that of its variable where each is clipped by its own norm,
  // otherwise 1, which changes no bit. Nothing else changes either without limit, decay and l2.
  HOST_DEVICE float operator()(float& param, float grad, float factor = 1) const {
    // The test is the same for all elements, so that without a limit the loop on the CPU is shorter.
    const float clipped = limit > 0 ? (grad < -limit ? -limit : (grad > limit ? limit : grad)) : grad;
    const float unscaled = clipped * scale * factor;
    param -= decay * param;
    return l2 == 0 ? unscaled : unscaled + l2 * param;
  }
};

}  // namespace lockstep
