// SPDX-License-Identifier: Apache-2.0
// The planner turns declarations, distribution and optimizer into a plan. It is pure: equal inputs give equal plans.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "optimizers/optimizer_set.h"
#include "runtime/plan/plan.h"
#include "runtime/plan/plan_rules.h"
#include "runtime/variables/variables.h"

namespace lockstep {

// The input of a plan.
struct PlannerInput {
  const VariableTable& variables;
  OptimizerSet optimizer;
  PlanSettings settings = {};
  // What the optimizer was given to update; absent: every trainable variable
  std::optional<std::vector<std::string>> optimized = std::nullopt;
  const RuleSet* rules = nullptr;  // absent: standard_rules()
};

// Throws Error(plan) naming the variable, the rule and the numbers when nothing is trainable (with the frozen
// variables), a layout does not fit its variable, a variable is of another mesh, the optimizer was given unknown or
// frozen variables or not the trainable ones, f16 is to be rounded stochastically, or settings contradict each other.
Plan make_plan(const PlannerInput& input);

// Throws Error(plan) saying why ranks on such a device cannot train by this plan, which can only be forecast.
void check_runnable(const Plan& plan, DeviceKind device = DeviceKind::cpu);

}  // namespace lockstep
