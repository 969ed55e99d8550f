// SPDX-License-Identifier: Apache-2.0
#include "collectives/bootstrap.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "collectives/host/mpi_ranks.h"
#include "collectives/host/thread_ranks.h"
#include "kernels/device/number_text.h"

namespace lockstep {

namespace {

using Variable = std::function<const char*(const char*)>;

int number(const char* name, const char* text) {
  const std::optional<int64_t> value = whole_number_in(text);
  check(value && *value >= 0 && *value <= std::numeric_limits<int>::max(), ErrorCode::launch, [&] {
    return str("environment variable ", name, " should be a rank or a number of ranks, got '", text,
               "'; unset it or start the program with mpirun");
  });
  return int(*value);
}

// Reads the claim of a launcher that sets `rank` (and `size`, unless null).
bool claims(const Variable& variable, const char* rank, const char* size, const char* launcher, LauncherClaim& claim) {
  const char* rank_text = variable(rank);
  if (rank_text == nullptr) return false;
  const char* size_text = size ? variable(size) : nullptr;
  claim = {launcher, number(rank, rank_text), size_text ? number(size, size_text) : 0};
  return true;
}

void check_claim(const LauncherClaim& claim, int mpi_rank, int mpi_size) {
  const bool size_differs = claim.size > 0 && claim.size != mpi_size;
  const bool rank_differs = claim.rank != mpi_rank;
  check(!size_differs && !rank_differs, ErrorCode::launch, [&] {
    return str(claim.launcher, " started this process as rank ", claim.rank,
               claim.size > 0 ? str(" of ", claim.size) : std::string(), ", but MPI says rank ", mpi_rank, " of ",
               mpi_size,
               "; the launcher and the MPI library do not belong together: start with the mpirun of the MPI "
               "that Lockstep was built with, or with 'srun --mpi=pmix' (or pmi2) if that MPI supports it");
  });
}

int pretended_nodes() {
  const char* text = std::getenv("LOCKSTEP_PRETEND_NODES");
  return text ? std::max(1, number("LOCKSTEP_PRETEND_NODES", text)) : 1;
}

}  // namespace

LauncherClaim read_launcher(const Variable& variable) {
  LauncherClaim claim;
  if (claims(variable, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "mpirun", claim)) return claim;
  if (claims(variable, "PMI_RANK", "PMI_SIZE", "a PMI launcher", claim)) return claim;
  // A batch script sees SLURM_NTASKS too, but is a single process; only a step is started as tasks.
  const bool in_step = variable("SLURM_STEP_ID") != nullptr && variable("SLURM_STEP_NUM_TASKS") != nullptr;
  if (in_step && claims(variable, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "srun", claim)) return claim;
  claims(variable, "PMIX_RANK", nullptr, "a PMIx launcher", claim);
  return claim;
}

LauncherClaim read_launcher() {
  return read_launcher([](const char* name) { return std::getenv(name); });
}

int launcher_rank() noexcept {
  try {
    return read_launcher().rank;
  } catch (const Error&) {
    return 0;
  }
}

std::unique_ptr<Communicator> connect() {
  const LauncherClaim claim = read_launcher();
  if (claim.launcher.empty() || claim.size == 1) return make_serial_communicator();
  const int nodes = pretended_nodes();
  std::unique_ptr<Communicator> ranks = connect_mpi(nodes, [&](int rank, int size) { check_claim(claim, rank, size); });
  check(ranks != nullptr, ErrorCode::launch, [&] {
    return str(
        claim.launcher, " started this process as rank ", claim.rank,
        claim.size > 0 ? str(" of ", claim.size) : std::string(),
        ", but Lockstep was built without MPI; install MPI (Debian: libopenmpi-dev) and build again, or start one "
        "process with --ranks N");
  });
  return ranks;
}

int exit_code(const std::exception& error) {
  const auto* ours = dynamic_cast<const Error*>(&error);
  return ours && ours->code() == ErrorCode::usage ? 2 : 1;
}

int run_connected(const std::function<int(Communicator&)>& body,
                  const std::function<void(const std::exception&)>& report) {
  std::unique_ptr<Communicator> ranks;
  try {
    ranks = connect();
  } catch (const Error& error) {
    // All ranks find out alike that launcher and MPI disagree; other failures may be one rank's own.
    if (error.code() != ErrorCode::launch || launcher_rank() == 0) report(error);
    return exit_code(error);
  }
  try {
    return body(*ranks);
  } catch (const std::exception& error) {
    if (ranks->claim_error_report()) report(error);
    ranks->abort(exit_code(error));
    return exit_code(error);
  }
}

}  // namespace lockstep
