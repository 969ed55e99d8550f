// SPDX-License-Identifier: Apache-2.0
// Plans for people: the table of variables, the explanation of one, the difference of two.
#pragma once

#include <string>
#include <string_view>

#include "runtime/plan/plan.h"
#include "runtime/plan/plan_rules.h"

namespace lockstep {

// One row per variable, with exact bytes; folded, alike layers are one row, and bytes are readable.
enum class Rows { all, folded };
std::string plan_table(const Plan& plan, Rows rows = Rows::all);

// The decisions on one variable, each with the rule that took it, its reason, and why the other answers lost; all texts
// come from `rules`. Throws Error(plan) for an unknown path.
std::string explain(const Plan& plan, std::string_view path, const RuleSet& rules = standard_rules());

// Says why the variable did not get an answer such as "sharded", "sum" or "on-tape" (Rule::answer or Rule::id). Throws
// Error(usage) listing what can be asked.
std::string explain_why_not(const Plan& plan, std::string_view path, std::string_view answer,
                            const RuleSet& rules = standard_rules());

// The differences between two plans, one per line; empty when there are none.
std::string plan_difference(const Plan& a, const Plan& b);

// "1234 B", "1.2 KiB", "80.0 GiB"
std::string readable_bytes(int64_t bytes);

}  // namespace lockstep
