// SPDX-License-Identifier: Apache-2.0
// What is legal in a plan and probably not meant.
#pragma once

#include <string>
#include <vector>

#include "runtime/plan/plan.h"

namespace lockstep {

// Layout rules that matched nothing or only scalars, rules that do not divide, axes that split nothing, large variables
// that are replicated although the mesh could split them, padding, shapes that are not known.
std::vector<std::string> plan_warnings(const Plan& plan);

}  // namespace lockstep
