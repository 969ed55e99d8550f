// SPDX-License-Identifier: Apache-2.0
// The kernels of an optimizer's step. One team decides, counts and computes the constants of the step. Then one pass
// over ranges updates them, or a few launches update a tensor (tensor_rule.h). Neither takes numbers from the host.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>

#include "kernels/device/view.h"
#include "optimizers/optimizer.h"
#include "optimizers/step_verdict.h"

namespace lockstep {

// A rule's slots are static, or a member if their first values are hyper-parameters.
template <class Rule>
inline constexpr size_t kSlots = std::tuple_size_v<std::remove_cv_t<decltype(Rule::slots)>>;

// A rule may keep scalars (nadam.h).
template <class Rule>
concept HasScalars = requires {
  Rule::scalars;
};

// A rule may want gradients as they are (overwrite.h).
template <class Rule>
concept TakesRawGradients = requires {
  Rule::takes_raw_gradients;
};

// What prepare() leaves for update().
template <class Rule>
struct RuleConstants {
  typename Rule::template Update<float> rule;
  float decay;  // learning rate times decoupled weight decay
  float l2;     // weight decay that is part of the gradient
};

// Decides by the verdict, if there is one. Then, unless the step is skipped, takes the learning rate of the step if
// rates are given, advances the rule's scalars and the counter, and computes the constants.
template <class Rule>
struct Prepare {
  Rule rule;
  double weight_decay;
  bool coupled_weight_decay;  // weight decay is part of the gradient
  StepState state;
  LearningRates rates;
  bool decides;
  StepVerdict verdict;
};

// g = clip(grad) * grad_scale * factor of its variable;  w -= decay w;  rule(w, g + l2 w, slots);  grad = 0. With
// decision->skip there is only grad = 0. The other operands are those of UpdateOperands; all pointers are to memory of
// the device.
template <class Rule>
struct PreparedUpdate {
  const RuleConstants<Rule>* constants;
  const StepScalars* decision;
  View param, grad;
  std::array<View, kSlots<Rule>> slots;
  View working_copy;
  GranuleMap granules;
  std::byte* scratch;  // for rules that update by tensor
};

template <class Rule>
void run(Cpu, Stream&, const Prepare<Rule>&);
template <class Rule>
void run(Cuda, Stream&, const Prepare<Rule>&);
// For rules that update ranges.
template <class Rule>
void run(Cpu, Stream&, const PreparedUpdate<Rule>&);
template <class Rule>
void run(Cuda, Stream&, const PreparedUpdate<Rule>&);

}  // namespace lockstep
