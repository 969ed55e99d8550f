// SPDX-License-Identifier: Apache-2.0
// What must hold for every plan, checked after the planner and before memory: a second look that shares no code with
// the rules.
#pragma once

#include "runtime/plan.h"

namespace lockstep {

// Throws Error(plan) naming the variable and what is wrong with it:
// - counters and hyperparameters are replicated scalars with an explicitly empty layout, off the tape, in no bucket, of
//   aggregation only_first_replica; counters are i64
// - on the tape, in gradient sync and a member of exactly one bucket are the same set: the trainable variables
// - ranges of variables do not overlap and lie in their section; slots lie where their parameter does
// - buckets follow each other without gaps, cover the arena and are divisible by the ranks
void check_plan(const Plan& plan);

}  // namespace lockstep
