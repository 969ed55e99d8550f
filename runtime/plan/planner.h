// SPDX-License-Identifier: Apache-2.0
// The planner: declarations, distribution and optimizer in, plan out. Pure: equal inputs, equal plans.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "optimizers/optimizer_set.h"
#include "runtime/plan/plan.h"
#include "runtime/plan/plan_rules.h"
#include "runtime/variables/variables.h"

namespace lockstep {

// What a plan is made of.
struct PlannerInput {
  const VariableTable& variables;
  OptimizerSet optimizer;
  PlanSettings settings = {};
  // What the optimizer was given to update; absent: every trainable variable.
  std::optional<std::vector<std::string>> optimized = std::nullopt;
  const RuleSet* rules = nullptr;  // absent: standard_rules()
};

// Throws Error(plan) naming the variable, the rule and the numbers: nothing is trainable (with the frozen variables), a
// layout that does not fit its variable, a variable of another mesh, an optimizer that was given unknown or frozen
// variables or was not given trainable ones, stochastic rounding of f16, settings that contradict each other.
Plan make_plan(const PlannerInput& input);

// Throws Error(plan) with what keeps ranks on such a device from training by this plan: it can be forecast, not run.
void check_runnable(const Plan& plan, DeviceKind device = DeviceKind::cpu);

}  // namespace lockstep
