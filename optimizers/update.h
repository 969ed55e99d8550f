// SPDX-License-Identifier: Apache-2.0
// The kernel of every optimizer: one pass over a flat range that unscales the gradient, decays and updates the
// parameter with its slots, and clears the gradient.
#pragma once

#include <array>
#include <tuple>
#include <type_traits>

#include "kernels/device/device.h"
#include "kernels/device/view.h"
#include "optimizers/optimizer.h"

namespace lockstep {

// A rule's slots are static, or a member where their first values are hyper-parameters.
template <class Rule>
inline constexpr size_t kSlots = std::tuple_size_v<std::remove_cv_t<decltype(Rule::slots)>>;

// w -= decay w;  rule(w, grad_scale * g + l2 w, slots);  g = 0.  With scalars->skip only g = 0.
template <class Rule>
struct Update {
  typename Rule::template Update<float> rule;
  float decay = 0;  // learning rate times decoupled weight decay
  float l2 = 0;     // weight decay that is part of the gradient
  const StepScalars* scalars = nullptr;
  View param, grad;
  std::array<View, kSlots<Rule>> slots;
};

template <class Rule>
void run(Cpu, Stream&, const Update<Rule>&);
template <class Rule>
void run(Cuda, Stream&, const Update<Rule>&);

}  // namespace lockstep
