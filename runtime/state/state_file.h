// SPDX-License-Identifier: Apache-2.0
// All state of a training in one file: every variable of the plan by its name - parameters, slots, counters, rates - so
// that another run, on any number of ranks, can go on where this one stopped.
#pragma once

#include <string>

#include "collectives/communicator.h"
#include "runtime/state/variable_store.h"

namespace lockstep {

// Writes the file whole or not at all. One rank calls it. Waits for the GPU where there is one.
void save_state(const std::string& path, const VariableStore& variables);

// Collective, before the first step. Rank 0 reads the file, and all variables become what it says. Error(data) names
// what the file lacks, has in addition, or has with another shape or dtype.
void restore_state(const std::string& path, VariableStore& variables, Communicator& communicator);

}  // namespace lockstep
