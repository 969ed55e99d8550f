// SPDX-License-Identifier: Apache-2.0
// Compares a plan's forecast with what a few steps really take: bytes, collectives, time.
#pragma once

#include "collectives/communicator.h"
#include "tools/planning/planning.h"

namespace lockstep {

// Collective. Runs `steps` training steps of a shipped model on made-up images, with as many ranks as the plan has, and
// prints forecast beside measurement on rank 0. Throws Error(usage) for a plan of other ranks or one that cannot be
// run, Error(internal) when a term that must be exact is not. Times are printed and decide nothing.
void verify_plan(const Planning& planning, Communicator& communicator, int64_t steps);

}  // namespace lockstep
