// SPDX-License-Identifier: Apache-2.0
// Which rank writes which elements of the state: the ranges that it adds up gradients for (runtime/plan/owners.h), of
// parameters and of every slot, so that all ranks of all nodes together write everything once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/plan/plan.h"

namespace lockstep {

// Elements [begin, end) of a variable, counted row by row.
struct StateChunk {
  int32_t variable = 0;  // index into Plan::variables
  int64_t begin = 0, end = 0;
  int64_t elements() const { return end - begin; }
  friend bool operator==(const StateChunk&, const StateChunk&) = default;
};

// The chunks that `rank` of the batch axis writes, at most one of each variable, in the order of the plan. `node_of`
// gives the node of each rank. Frozen variables are dealt round; bookkeeping, which every rank has, is rank 0's.
std::vector<StateChunk> chunks_of(const Plan& plan, std::span<const int> node_of, int rank);

}  // namespace lockstep
