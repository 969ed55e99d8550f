// SPDX-License-Identifier: Apache-2.0
// What `lockstep plan` prints.
#pragma once

#include <string>

#include "tools/planning/planning.h"

namespace lockstep {

// Variables, buckets, collectives, memory by class of ranks, time by the profile, warnings of a plan that was made by
// `planning`.
std::string plan_report(const Planning& planning, const Plan& plan);

}  // namespace lockstep
