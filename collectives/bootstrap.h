// SPDX-License-Identifier: Apache-2.0
// Which rank of how many this process is, by MPI and by the launcher, and an error when the two disagree.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "collectives/communicator.h"

namespace lockstep {

// What the launcher told this process through its environment.
struct LauncherClaim {
  std::string launcher;  // "mpirun", "Hydra, ...", "srun", "torchrun"; empty if started by itself
  int rank = 0;
  int size = 1;  // 0 if the launcher does not say
};
// `variable` looks up an environment variable; null if it is not set. Error(launch) for values that are no numbers.
LauncherClaim read_launcher(const std::function<const char*(const char*)>& variable);
LauncherClaim read_launcher();

// Name and version of an MPI library, "Open MPI v4.1.4" or "MPICH 4.0.2", out of what MPI_Get_library_version() says.
// The other form is that of this build, empty without MPI.
std::string mpi_name(std::string_view library_version);
std::string mpi_name();
// How ranks of the MPI library of this name have to be started: each MPI understands some launchers, and under others
// every process believes to be alone.
std::string launch_advice(std::string_view mpi_name);
// False where it is known before MPI starts that this launcher does not serve the library of this name. Open MPI would
// look for its own launcher for ten seconds, say what it does not understand, and then believe to be alone.
bool is_served(const LauncherClaim& claim, std::string_view mpi_name);

using ErrorReport = std::function<void(const std::exception&)>;
inline constexpr std::chrono::milliseconds kDefaultTimeout{60'000};

// Joins the ranks that the launcher started; one rank by itself never starts MPI. Collective. MPI is finalized when the
// communicator, its parts and its windows have gone. Error(launch) when launcher and MPI disagree. `timeout` is how
// long a rank waits for the others, already here. Where MPI itself does not come back in that time the process tells
// `report` which ranks are not there, on another thread, and ends with exit code 1. LOCKSTEP_PRETEND_NODES=n cuts each
// machine into n nodes, for tests.
std::unique_ptr<Communicator> connect(std::chrono::milliseconds timeout, const ErrorReport& report);

// The body of main(): connects, runs `body`, waits for the other ranks to come to its end and returns its exit code.
// Exactly one rank gives a failure to `report`; then every rank of the job ends with exit_code(error).
int run_connected(const std::function<int(Communicator&)>& body, const ErrorReport& report,
                  std::chrono::milliseconds timeout = kDefaultTimeout);
// Returns 2 for wrong usage, 1 for everything else.
int exit_code(const std::exception& error);

}  // namespace lockstep
