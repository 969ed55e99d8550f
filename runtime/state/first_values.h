// SPDX-License-Identifier: Apache-2.0
// The values that variables have before the first step: a function of the seed, a variable's path and an element's
// number, so they depend neither on ranks nor on the order of declarations.
#pragma once

#include <cstdint>

#include "optimizers/optimizer_set.h"
#include "runtime/state/state_memory.h"
#include "runtime/variables/variables.h"

namespace lockstep {

// Writes every variable of the plan into `memory`, which lies on the host: parameters by their initializers (masters
// are not rounded), slots by their optimizer, and the optimizer's scalars; the counter is the zero that it was
// allocated with.
void write_first_values(const StateMemory& memory, const VariableTable& declarations, const OptimizerSet& optimizer,
                        uint64_t seed);

}  // namespace lockstep
