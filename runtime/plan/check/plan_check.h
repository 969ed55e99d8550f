// SPDX-License-Identifier: Apache-2.0
// The invariants of every plan. They are checked after the planner and before memory, and for every plan that comes
// from a file. This second look shares no code with the rules and the layout of buckets.
#pragma once

#include "runtime/plan/plan.h"

namespace lockstep {

// Throws Error(plan) naming the variable, bucket or collective and what is wrong with it. The invariants have the
// numbers that docs/planner.md gives them:
// - I1 roles are of the closed set; I2 scalars are replicated with an explicitly empty layout, and every layout has one
//   entry per dimension; its axes belong to the mesh, appear once each and divide their dimension
// - I3 the trainable floating parameters, and nothing else, are on the tape; I4 each of them is a member of one bucket,
//   and every bucket is summed once over the batch axis, once per step or per micro-batch, with its bytes
// - I5 aggregation and residence follow role and dtype for every role; I9 counters are i64 scalars
// - I12 every rank holds the bookkeeping, also ranks without a part of the arrays; I13 no two variables overlap; slots
//   lie where their parameter lies, one for every parameter and slot
// - sections and buckets have no gaps, parts are equal, classes of ranks count every rank and add up to what they hold
void check_plan(const Plan& plan);

}  // namespace lockstep
