// SPDX-License-Identifier: Apache-2.0
// The kernel of every optimizer: one pass over a flat range that unscales the gradient, decays and updates the
// parameter with its slots, and clears the gradient.
#pragma once

#include <array>

#include "kernels/device/device.h"
#include "kernels/device/view.h"
#include "optimizers/optimizer.h"

namespace lockstep {

// w -= a d w;  rule(w, grad_scale * g, slots);  g = 0.  With scalars->skip only g = 0.
template <class Rule>
struct Update {
  typename Rule::Update rule;
  float decay = 0;  // learning rate times weight decay
  const StepScalars* scalars = nullptr;
  View param, grad;
  std::array<View, Rule::slots.size()> slots;
};

template <class Rule>
void run(Cpu, Stream&, const Update<Rule>&);
template <class Rule>
void run(Cuda, Stream&, const Update<Rule>&);

}  // namespace lockstep
