// SPDX-License-Identifier: Apache-2.0
// Warnings about what is legal in a plan and probably not meant.
#pragma once

#include <string>
#include <vector>

#include "runtime/plan/plan.h"

namespace lockstep {

// Covers layout rules that match nothing or only scalars, rules that do not divide, axes that split nothing, large
// variables that are replicated although the mesh could split them, padding, and unknown shapes.
std::vector<std::string> plan_warnings(const Plan& plan);

}  // namespace lockstep
