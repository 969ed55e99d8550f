// SPDX-License-Identifier: Apache-2.0
// The part of check_plan that checks what a plan costs - its collectives, and the bytes of its classes of ranks - and
// the way check_plan complains.
#pragma once

#include "kernels/device/check.h"
#include "runtime/plan/plan.h"

namespace lockstep {

template <class Message>
void demand(bool holds, Message&& message) {
  check(holds, ErrorCode::plan, [&] { return "the plan breaks a rule: " + message(); });
}

inline void demand(bool holds, const PlannedVariable& variable, std::string_view what) {
  check(holds, ErrorCode::plan, [&] {
    return str("the plan breaks a rule: ", variable.path, " (", to_string(variable.role), ", ",
               to_string(variable.dtype), " ", to_string(variable.shape), ") ", what);
  });
}

// Both take plans whose settings and buckets are checked.
void check_collectives(const Plan& plan);
void check_classes(const Plan& plan);

}  // namespace lockstep
