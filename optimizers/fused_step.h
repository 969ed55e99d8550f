// SPDX-License-Identifier: Apache-2.0
// What every optimizer does to one element besides its rule.
#pragma once

#include "kernels/host_device.h"

namespace lockstep {

// w -= decay w;  rule(w, g + l2 w, slots). `unscaled`: the gradient, unscaled and clipped.
template <class Rule, class... State>
HOST_DEVICE inline void fused_step(const Rule& rule, float decay, float l2, float unscaled, float& param,
                                   State&... state) {
  // Before the rule and apart from its gradient: decoupled (Loshchilov & Hutter 2019). Without decay it is exact.
  param -= decay * param;
  rule(param, l2 == 0 ? unscaled : unscaled + l2 * param, state...);
}

}  // namespace lockstep
