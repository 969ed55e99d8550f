// SPDX-License-Identifier: Apache-2.0
// The rules of the planner. Each question about a variable is answered by the first rule that applies; the same rule
// says why it applied or why it did not, and that is all the explanation there is.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/plan/plan.h"

namespace lockstep {

// What a rule looks at.
struct RuleCase {
  const PlanSettings& settings;
  const PlannedVariable& variable;   // as declared; a layout or an aggregation given by hand is in place
  const PlannedVariable* parameter;  // of a slot, planned already; otherwise null
};

struct Rule {
  std::string_view id;  // stable, such as "L2"
  Question question;
  std::string_view answer;  // what it decides, in a word that users can ask for: "sharded", "sum"
  std::function<bool(const RuleCase&)> applies;
  std::function<void(const RuleCase&, PlannedVariable&)> decide;
  std::function<std::string(const RuleCase&)> reason;     // why it applies; asked only where it does
  std::function<std::string(const RuleCase&)> rejection;  // why it does not, or why a rule before it holds
};

using RuleSet = std::vector<Rule>;

// The rules in the order they are tried. Tests plan with broken copies.
const RuleSet& standard_rules();

// Whether dimension by dimension the layout divides the shape, with axes that the mesh has, each used once. Empty, or
// what is wrong with it.
std::string layout_problem(const PlanSettings& settings, const Layout& layout, const Shape& shape);

// Answers every question about `variable`. Throws Error(plan) when no rule answers one.
void apply_rules(const RuleSet& rules, const PlanSettings& settings, const PlannedVariable* parameter,
                 PlannedVariable& variable);

}  // namespace lockstep
