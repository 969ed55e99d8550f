// SPDX-License-Identifier: Apache-2.0
// The output of `lockstep plan`.
#pragma once

#include <string>

#include "runtime/plan/plan_text.h"
#include "tools/planning/planning.h"

namespace lockstep {

// Reports memory by class of ranks, time by the profile and warnings of a plan that `planning` made, then variables,
// buckets and collectives.
std::string plan_report(const Planning& planning, const Plan& plan, Rows rows);

}  // namespace lockstep
