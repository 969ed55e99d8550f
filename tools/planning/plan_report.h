// SPDX-License-Identifier: Apache-2.0
// The output of `lockstep plan`.
#pragma once

#include <string>

#include "tools/planning/planning.h"

namespace lockstep {

// Reports variables, buckets, collectives, memory by class of ranks, time by the profile, and warnings of a plan that
// `planning` made.
std::string plan_report(const Planning& planning, const Plan& plan);

}  // namespace lockstep
