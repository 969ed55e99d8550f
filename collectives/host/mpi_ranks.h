// SPDX-License-Identifier: Apache-2.0
// The way to MPI, implemented by mpi_ranks.cpp or no_mpi.cpp. Internal to collectives/.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "collectives/communicator.h"

namespace lockstep {

// What a launcher says of one rank.
struct RankClaim {
  int rank = 0, size = 0;  // size 0: it does not say
};

struct MpiStart {
  RankClaim claim;
  // `check_claims`(claims by MPI's ranks, MPI's rank of this process) is called alike on all ranks and may throw; MPI
  // is then ended properly.
  std::function<void(const std::vector<RankClaim>&, int)> check_claims;
  int pretended_nodes = 1;            // each machine counts as so many nodes
  std::chrono::milliseconds timeout;  // of every wait for other ranks, from the start of MPI to its end
  // Tells why this process ends when MPI does not come back, on a thread of its own.
  std::function<void(const std::exception&)> report;
};

// What MPI_Get_library_version() says, before MPI is started, too; empty when this build has no MPI.
std::string mpi_library_version();

// Starts MPI and returns all its ranks; null when this build has no MPI.
std::unique_ptr<Communicator> connect_mpi(const MpiStart& start);

}  // namespace lockstep
