// SPDX-License-Identifier: Apache-2.0
// Says which rank of a node updates which tensor, where optimizers work tensor by tensor, and what memory that takes.
#pragma once

#include <cstdint>
#include <vector>

#include "collectives/communicator.h"
#include "optimizers/optimizer_set.h"
#include "runtime/plan/plan.h"

namespace lockstep {

// The variables of the plan that the rank at `place` updates as a whole. Ranks that share a copy of them divide them
// up: the largest first, each to the rank with the least so far. A rank with its own copy updates all.
std::vector<int32_t> tensors_of_rank(const Plan& plan, const OptimizerSet& optimizer, const Place& place);

// Bytes that the stream of such a rank holds for the kernels of these updates, on the CPU.
int64_t rehearse_updates(const Plan& plan, const OptimizerSet& optimizer, const std::vector<int32_t>& tensors,
                         int threads);

}  // namespace lockstep
