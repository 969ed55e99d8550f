// SPDX-License-Identifier: Apache-2.0
// The rules of the planner. The first rule that applies answers a question about a variable; the same rule says why it
// applied or why it did not, and there is no other explanation.
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
  const PlannedVariable& variable;   // as declared; a layout or an aggregation given by hand is already in place
  const PlannedVariable* parameter;  // a slot's parameter, already planned; otherwise null
};

struct Rule {
  std::string_view id;  // stable, such as "L2"
  Question question;
  std::string_view answer;  // its decision, in a word that users can ask for: "sharded", "sum"
  std::function<bool(const RuleCase&)> applies;
  std::function<void(const RuleCase&, PlannedVariable&)> decide;
  std::function<std::string(const RuleCase&)> reason;     // why it applies; asked only where it does
  std::function<std::string(const RuleCase&)> rejection;  // why it does not apply, or why an earlier rule wins
};

using RuleSet = std::vector<Rule>;

// The rules in the order they are tried. Tests plan with broken copies.
const RuleSet& standard_rules();

// Checks dimension by dimension that the layout divides the shape, with axes that the mesh has, each used once. Returns
// what is wrong with it, or nothing.
std::string layout_problem(const PlanSettings& settings, const Layout& layout, const Shape& shape);

// Answers every question about `variable`. Throws Error(plan) when no rule answers one.
void apply_rules(const RuleSet& rules, const PlanSettings& settings, const PlannedVariable* parameter,
                 PlannedVariable& variable);

}  // namespace lockstep
