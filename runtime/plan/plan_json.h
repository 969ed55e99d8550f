// SPDX-License-Identifier: Apache-2.0
// Plans as JSON: other programs can read what is written, and it reads back exactly.
#pragma once

#include <string>
#include <string_view>

#include "runtime/plan/plan.h"
#include "runtime/plan/plan_rules.h"

namespace lockstep {

inline constexpr int64_t kLongestPlanText = int64_t(256) << 20;  // bytes; longer texts are not read

// Includes the hash, and the reasons in words.
std::string plan_to_json(const Plan& plan);

// Returns the plan that was written. `where` names the file in messages. Throws Error(data) when the text is no JSON or
// not of this form (naming the place and what was expected), and when the hash does not belong to the content;
// Error(plan) when the content breaks an invariant. Takes time linear in the text, whatever it holds. std::bad_alloc
// before anything is read where there is not enough memory.
Plan plan_from_json(std::string_view text, const std::string& where);

}  // namespace lockstep
