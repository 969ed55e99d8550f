// SPDX-License-Identifier: Apache-2.0
// What `lockstep plan` prints.
#pragma once

#include <string>

#include "runtime/forecast.h"
#include "runtime/plan.h"

namespace lockstep {

// Variables, buckets, collectives, memory by class of ranks, time by `profile`, warnings.
std::string plan_report(const std::string& model, const Plan& plan, const MachineProfile& profile);

}  // namespace lockstep
