// SPDX-License-Identifier: Apache-2.0
// Which rank of a node updates which tensor, where optimizers work tensor by tensor; and what that takes.
#pragma once

#include <cstdint>
#include <vector>

#include "optimizers/optimizer_set.h"
#include "runtime/plan/plan.h"

namespace lockstep {

// Variables of the plan: the largest first, each to the rank with the least so far.
std::vector<int32_t> tensors_of_rank(const Plan& plan, const OptimizerSet& optimizer, int local_rank, int local_size);

// Bytes that the stream of such a rank holds for the kernels of these updates, on the CPU.
int64_t rehearse_updates(const Plan& plan, const OptimizerSet& optimizer, const std::vector<int32_t>& tensors,
                         int threads);

}  // namespace lockstep
