// SPDX-License-Identifier: Apache-2.0
// The planner for data parallelism: declarations, mesh and optimizer in, plan out. Pure: equal inputs, equal plans.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "collectives/gradient_reducer.h"
#include "optimizers/optimizer.h"
#include "runtime/plan.h"
#include "runtime/variables.h"

namespace lockstep {

struct PlannerInput {
  const VariableTable& variables;
  const Optimizer& optimizer;
  int64_t ranks = 1;
  ReduceMode reduce = ReduceMode::tree;
  int virtual_ranks = 1;
  int64_t bucket_bytes = 4 << 20;  // a bucket closes when it holds this much
};

// Throws Error(plan) when nothing is trainable, naming the frozen variables.
Plan make_plan(const PlannerInput& input);

}  // namespace lockstep
