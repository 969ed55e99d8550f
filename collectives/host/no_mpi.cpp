// SPDX-License-Identifier: Apache-2.0
// Takes the place of mpi_ranks.cpp where Lockstep is built without MPI.
#include "collectives/host/mpi_ranks.h"

namespace lockstep {

std::string mpi_library_version() { return ""; }

std::unique_ptr<Communicator> connect_mpi(const MpiStart&) { return nullptr; }

}  // namespace lockstep
