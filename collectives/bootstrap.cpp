// SPDX-License-Identifier: Apache-2.0
#include "collectives/bootstrap.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <sstream>
#include <thread>

#include "collectives/host/job_processes.h"
#include "collectives/host/last_words.h"
#include "collectives/host/mpi_ranks.h"
#include "collectives/host/thread_ranks.h"
#include "kernels/device/number_text.h"

namespace lockstep {

namespace {

using Variable = std::function<const char*(const char*)>;

const char* const kSrun = "srun";
const char* const kTorchrun = "torchrun";
const char* const kHydra = "Hydra, the launcher of MPICH,";

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

// Every rank checks the claims of all, so that all fail alike.
void check_claims(const std::string& launcher, const std::vector<RankClaim>& claims, int self) {
  const int size = int(claims.size());
  for (int rank = 0; rank < size; ++rank) {
    const RankClaim& claim = claims[size_t(rank)];
    check(claim.rank == rank && (claim.size == 0 || claim.size == size), ErrorCode::launch, [&] {
      return str(launcher, " started ", rank == self ? "this process" : "a process", " as rank ", claim.rank,
                 claim.size > 0 ? str(" of ", claim.size) : std::string(), ", but MPI says rank ", rank, " of ", size,
                 size > 1 ? "; something between launcher and program changes the launcher's environment variables: "
                            "start the program with mpirun itself"
                          : str("; either these variables were left over from another job (unset them), or this "
                                "launcher does not serve the MPI library that Lockstep was built with: ",
                                launch_advice(mpi_name())));
    });
  }
}

int pretended_nodes() {
  const char* text = std::getenv("LOCKSTEP_PRETEND_NODES");
  return text ? std::max(1, number("LOCKSTEP_PRETEND_NODES", text)) : 1;
}

// Reports a failure on the way to the first communicator. Ranks fail alike there, and cannot ask each other who speaks.
void report_once(const ErrorReport& report, const std::exception& error) {
  const Spokesman spokesman;
  if (spokesman.may_speak()) report(error);
  // The right to speak goes with its owner, so whoever fails a moment later is to find it taken; and the launcher ends
  // the speaker when another rank is gone.
  constexpr std::chrono::milliseconds kMoment{500};
  std::this_thread::sleep_for(kMoment);
}

// "srun started this process as rank 1 of 2".
std::string text_of(const LauncherClaim& claim) {
  return str(claim.launcher, " started this process as rank ", claim.rank,
             claim.size > 0 ? str(" of ", claim.size) : std::string());
}

// Some MPI libraries end the process where they find no launcher of theirs, with a page of words about how they were
// built. Slurm without a plugin for MPI is the usual case.
std::unique_ptr<LastWords> words_for_end_in_mpi(const LauncherClaim& claim, const ErrorReport& report) {
  if (claim.launcher != kSrun) return nullptr;
  return std::make_unique<LastWords>([&] {
    report_once(report,
                Error(ErrorCode::launch,
                      str(text_of(claim), " without telling MPI about the others, and the MPI library has ended ",
                          "it: ", launch_advice(mpi_name())),
                      std::source_location::current()));
  });
}

}  // namespace

LauncherClaim read_launcher(const Variable& variable) {
  LauncherClaim claim;
  if (claims(variable, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "mpirun", claim)) return claim;
  const char* pmi = variable("HYDI_CONTROL_FD") ? kHydra : "a PMI launcher";
  if (claims(variable, "PMI_RANK", "PMI_SIZE", pmi, claim)) return claim;
  // A batch script sees SLURM_NTASKS too, but is a single process; only a step is started as tasks.
  const bool in_step = variable("SLURM_STEP_ID") != nullptr && variable("SLURM_STEP_NUM_TASKS") != nullptr;
  if (in_step && claims(variable, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", kSrun, claim)) return claim;
  if (claims(variable, "PMIX_RANK", nullptr, "a PMIx launcher", claim)) return claim;
  if (claims(variable, "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MVAPICH's mpirun", claim)) return claim;
  if (claims(variable, "FLUX_TASK_RANK", "FLUX_JOB_SIZE", "flux", claim)) return claim;
  // The names are common words, so more than one of them must be there.
  if (variable("WORLD_SIZE") && (variable("LOCAL_RANK") || variable("MASTER_ADDR")))
    claims(variable, "RANK", "WORLD_SIZE", kTorchrun, claim);
  return claim;
}

LauncherClaim read_launcher() {
  return read_launcher([](const char* name) { return std::getenv(name); });
}

std::string mpi_name(std::string_view library_version) {
  // "Open MPI v4.1.4, package: ...", "MPICH Version:      4.0.2\nMPICH Release date: ..."
  std::istringstream words{std::string(library_version.substr(0, library_version.find_first_of(",\n")))};
  std::string name;
  for (std::string word; words >> word;)
    if (word != "Version:" && word != "Version" && word != ":") name += str(name.empty() ? "" : " ", word);
  return name;
}

std::string mpi_name() { return mpi_name(mpi_library_version()); }

std::string launch_advice(std::string_view mpi_name) {
  const auto with = [&](std::string_view how) { return str("start the ranks of ", mpi_name, " with its own ", how); };
  if (mpi_name.starts_with("Open MPI"))
    return with("mpirun, or with 'srun --mpi=pmix' where 'srun --mpi=list' names pmix");
  if (mpi_name.starts_with("MPICH")) return with("mpiexec, or with 'srun --mpi=pmi2'");
  if (mpi_name.starts_with("Intel"))
    return with("mpirun, or with 'srun --mpi=pmi2' and I_MPI_PMI_LIBRARY naming Slurm's libpmi2.so");
  return with("mpirun");
}

bool is_served(const LauncherClaim& claim, std::string_view mpi_name) {
  return claim.launcher != kHydra || !mpi_name.starts_with("Open MPI");
}

std::unique_ptr<Communicator> connect(std::chrono::milliseconds timeout, const ErrorReport& report) {
  const LauncherClaim claim = read_launcher();
  if (claim.launcher.empty() || (claim.size == 1 && claim.rank == 0)) return make_serial_communicator();
  check(claim.launcher != kTorchrun, ErrorCode::launch, [&] {
    return str("RANK=", claim.rank, " and WORLD_SIZE=", claim.size, " are torchrun's, which would start ", claim.size,
               " runs of one rank each: Lockstep's ranks come from MPI; start them with 'mpirun -np ", claim.size,
               "', or unset RANK and WORLD_SIZE to run alone");
  });
  check(is_served(claim, mpi_name()), ErrorCode::launch, [&] {
    return str(text_of(claim),
               " and does not serve the MPI library that Lockstep was built with: ", launch_advice(mpi_name()));
  });
  const auto last_words = words_for_end_in_mpi(claim, report);
  std::unique_ptr<Communicator> ranks =
      connect_mpi({.claim = {claim.rank, claim.size},
                   .check_claims = [launcher = claim.launcher](const std::vector<RankClaim>& claims,
                                                               int self) { check_claims(launcher, claims, self); },
                   .pretended_nodes = pretended_nodes(),
                   .timeout = timeout,
                   .report = report});
  check(ranks != nullptr, ErrorCode::launch, [&] {
    return str(
        text_of(claim),
        ", but Lockstep was built without MPI; install MPI (Debian: libopenmpi-dev) and build again, or start one "
        "process with --ranks N");
  });
  return ranks;
}

int exit_code(const std::exception& error) {
  const auto* ours = dynamic_cast<const Error*>(&error);
  return ours && ours->code() == ErrorCode::usage ? 2 : 1;
}

int run_connected(const std::function<int(Communicator&)>& body, const ErrorReport& report,
                  std::chrono::milliseconds timeout) {
  std::unique_ptr<Communicator> ranks;
  try {
    ranks = connect(timeout, report);
  } catch (const std::exception& error) {
    report_once(report, error);
    return exit_code(error);
  }
  try {
    const int code = body(*ranks);
    // MPI has no deadline for its own end.
    ranks->barrier();
    return code;
  } catch (const std::exception& error) {
    if (ranks->claim_error_report()) report(error);
    ranks->abort(exit_code(error));
    return exit_code(error);
  }
}

}  // namespace lockstep
