// SPDX-License-Identifier: Apache-2.0
// The way to MPI, implemented by mpi_ranks.cpp or no_mpi.cpp. Internal to collectives/.
#pragma once

#include <functional>
#include <memory>

#include "collectives/communicator.h"

namespace lockstep {

// Starts MPI and returns all its ranks; null when this build has no MPI. `check_rank`(rank, size) may throw, and MPI is
// then ended properly. Each machine counts as `pretended_nodes` nodes.
std::unique_ptr<Communicator> connect_mpi(int pretended_nodes, const std::function<void(int, int)>& check_rank);

}  // namespace lockstep
