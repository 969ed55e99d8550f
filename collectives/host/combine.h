// SPDX-License-Identifier: Apache-2.0
// Reduces arrays element by element, in the order given. Internal to collectives/.
#pragma once

#include <cstdint>
#include <span>

#include "collectives/communicator.h"

namespace lockstep {

// outs[*][i] = ((ins[0][i] op ins[1][i]) op ins[2][i]) ... for i in [0, n). Outputs may be among the inputs.
// bf16 is summed in float and rounded once. Sums of integers wrap; NaN wins over numbers in max and min.
void combine(DType dtype, ReduceOp op, std::span<void* const> outs, std::span<const void* const> ins, int64_t n);

}  // namespace lockstep
