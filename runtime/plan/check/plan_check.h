// SPDX-License-Identifier: Apache-2.0
// What must hold for every plan, checked after the planner and before memory, and for every plan that comes from a
// file: a second look that shares no code with the rules and the layout of buckets.
#pragma once

#include "runtime/plan/plan.h"

namespace lockstep {

// Throws Error(plan) naming the variable, bucket or collective and what is wrong with it. The invariants, by the
// numbers that docs/planner.md gives them:
// - I1 roles are of the closed set; I2 scalars are replicated with an explicitly empty layout, and every layout has one
//   entry per dimension, axes of the mesh, each once, that divide their dimension
// - I3 on the tape are the trainable floating parameters and nothing else; I4 those, each once, are members of buckets,
//   and every bucket is summed once over the batch axis, once per step or per micro-batch, with its bytes
// - I5 aggregation and residence follow role and dtype for every role; I9 counters are i64 scalars
// - I12 every rank holds the bookkeeping, also ranks without a part of the arrays; I13 no two variables overlap; slots
//   lie where their parameter lies, one for every parameter and slot
// - sections and buckets have no gaps, parts are equal, classes of ranks count every rank and add up to what they hold
void check_plan(const Plan& plan);

}  // namespace lockstep
