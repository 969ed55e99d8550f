// SPDX-License-Identifier: Apache-2.0
// An optimizer's step in two launches, whatever the number of tensors: one team decides, counts and computes the
// constants of the step; one pass over the arena updates. The host gives numbers to neither.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/device/view.h"
#include "optimizers/optimizer.h"
#include "optimizers/step_verdict.h"
#include "optimizers/update.h"

namespace lockstep {

// What prepare() leaves for update().
template <class Rule>
struct RuleConstants {
  typename Rule::template Update<float> rule;
  float decay;  // as in Update
  float l2;
};

// If there is a verdict, decides by it. Then, unless the step is skipped: takes the learning rate of the step where
// rates are given, advances the rule's scalars and the counter, and computes the constants.
template <class Rule>
struct Prepare {
  Rule rule;
  double weight_decay;
  bool coupled_weight_decay;  // part of the gradient
  StepState state;
  LearningRates rates;
  bool decides;
  StepVerdict verdict;
};

// As Update, with constants and decision in memory of the device. `working_copy` (bf16, optional): the new parameter,
// rounded. `segments`: factors of gradients by variable.
template <class Rule>
struct PreparedUpdate {
  const RuleConstants<Rule>* constants;
  const StepScalars* decision;
  View param, grad;
  std::array<View, kSlots<Rule>> slots;
  View working_copy;
  Segments segments;
};

template <class Rule>
void run(Cpu, Stream&, const Prepare<Rule>&);
template <class Rule>
void run(Cuda, Stream&, const Prepare<Rule>&);
template <class Rule>
void run(Cpu, Stream&, const PreparedUpdate<Rule>&);
template <class Rule>
void run(Cuda, Stream&, const PreparedUpdate<Rule>&);

}  // namespace lockstep
