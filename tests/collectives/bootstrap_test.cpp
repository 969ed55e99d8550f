// SPDX-License-Identifier: Apache-2.0
#include "collectives/bootstrap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;

LauncherClaim read(const std::map<std::string, std::string>& environment) {
  return read_launcher([&](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

TEST(Bootstrap, ReadsWhatLaunchersSay) {
  const LauncherClaim none = read({});
  EXPECT_EQ(none.launcher, "");
  EXPECT_EQ(none.size, 1);
  const LauncherClaim mpirun = read({{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "4"}, {"PMIX_RANK", "3"}});
  EXPECT_EQ(mpirun.launcher, "mpirun");
  EXPECT_EQ(mpirun.rank, 3);
  EXPECT_EQ(mpirun.size, 4);
  EXPECT_EQ(read({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}).size, 2);
  const LauncherClaim pmix = read({{"PMIX_RANK", "5"}});
  EXPECT_EQ(pmix.rank, 5);
  EXPECT_EQ(pmix.size, 0);
  EXPECT_EQ(read({{"PMI_RANK", "010"}, {"PMI_SIZE", "012"}}).rank, 10) << "decimal, as everywhere";
}

TEST(Bootstrap, TakesSlurmTasksOnlyFromAStep) {
  const std::map<std::string, std::string> batch_script{{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}};
  EXPECT_EQ(read(batch_script).launcher, "");
  const LauncherClaim step = read({{"SLURM_PROCID", "2"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "4"}});
  EXPECT_EQ(step.launcher, "srun");
  EXPECT_EQ(step.rank, 2);
  EXPECT_EQ(step.size, 4);
}

TEST(Bootstrap, MpirunInsideASlurmStepWins) {
  const LauncherClaim claim = read({{"SLURM_PROCID", "0"},
                                    {"SLURM_STEP_ID", "1"},
                                    {"SLURM_STEP_NUM_TASKS", "2"},
                                    {"OMPI_COMM_WORLD_RANK", "5"},
                                    {"OMPI_COMM_WORLD_SIZE", "8"}});
  EXPECT_EQ(claim.launcher, "mpirun");
  EXPECT_EQ(claim.rank, 5);
}

TEST(Bootstrap, RefusesRanksThatAreNoNumbers) {
  for (const char* text : {"", "two", "-1", "3x", "99999999999"}) {
    try {
      read({{"PMI_RANK", text}});
      FAIL() << "accepted '" << text << "'";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::launch);
      EXPECT_THAT(error.what(), AllOf(HasSubstr("PMI_RANK"), HasSubstr(text)));
    }
  }
}

// An MPI says it in its own words.
TEST(Bootstrap, NamesTheMpiLibraryAndWhatStartsItsRanks) {
  const std::string open_mpi = mpi_name("Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4, repo rev: v4.1.4");
  EXPECT_EQ(open_mpi, "Open MPI v4.1.4");
  EXPECT_THAT(launch_advice(open_mpi), AllOf(HasSubstr("Open MPI v4.1.4"), HasSubstr("--mpi=pmix")));
  const std::string mpich = mpi_name("MPICH Version:      4.0.2\nMPICH Release date: Thu Apr  7 12:34:45 CDT 2022\n");
  EXPECT_EQ(mpich, "MPICH 4.0.2");
  EXPECT_THAT(launch_advice(mpich), AllOf(HasSubstr("MPICH 4.0.2"), HasSubstr("--mpi=pmi2")));
  EXPECT_EQ(mpi_name("MVAPICH2 Version      :\t2.3.7\nMVAPICH2 Release date: Wed March 02 22:00:00 EST 2022"),
            "MVAPICH2 2.3.7");
  EXPECT_THAT(launch_advice("Intel(R) MPI Library 2021.9 for Linux* OS"), HasSubstr("I_MPI_PMI_LIBRARY"));
}

// Everything else is left to MPI: other launchers speak PMI too, and some builds of Open MPI understand Slurm's or
// Flux's.
TEST(Bootstrap, KnowsBeforeMpiStartsThatHydraDoesNotServeOpenMpi) {
  const std::map<std::string, std::string> pmi{{"PMI_FD", "6"}, {"PMI_RANK", "1"}, {"PMI_SIZE", "2"}};
  std::map<std::string, std::string> hydra = pmi;
  hydra["HYDI_CONTROL_FD"] = "7";
  EXPECT_THAT(read(hydra).launcher, HasSubstr("MPICH"));
  EXPECT_EQ(read(hydra).rank, 1);
  EXPECT_FALSE(is_served(read(hydra), "Open MPI v4.1.4"));
  EXPECT_TRUE(is_served(read(hydra), "MPICH 4.0.2"));
  EXPECT_TRUE(is_served(read(hydra), "Intel(R) MPI Library 2021.9 for Linux* OS"));
  EXPECT_TRUE(is_served(read(pmi), "Open MPI v4.1.4"));
  std::map<std::string, std::string> mpirun_below_hydra = hydra;
  mpirun_below_hydra["OMPI_COMM_WORLD_RANK"] = "0";
  mpirun_below_hydra["OMPI_COMM_WORLD_SIZE"] = "2";
  EXPECT_TRUE(is_served(read(mpirun_below_hydra), "Open MPI v4.1.4"));
}

TEST(Bootstrap, WrongUsageEndsWithTwoAndFailuresWithOne) {
  const auto code_of = [](ErrorCode code) {
    try {
      fail(code, "");
    } catch (const std::exception& error) {
      return exit_code(error);
    }
  };
  EXPECT_EQ(code_of(ErrorCode::usage), 2);
  EXPECT_EQ(code_of(ErrorCode::file), 1);
  EXPECT_EQ(exit_code(std::runtime_error("")), 1);
}

}  // namespace
}  // namespace lockstep
