// SPDX-License-Identifier: Apache-2.0
// How many threads a rank should compute with: what the system allows it, shared with the ranks that are allowed the
// same. In a container the machine's cores say little: a set of cores or a quota of time gives it some of them.
#pragma once

#include <limits>
#include <span>
#include <string>
#include <vector>

#include "collectives/communicator.h"

namespace lockstep {

// What the system lets one process use.
struct UsableCores {
  std::vector<int> cores;                                  // numbers of the cores that it may run on
  double quota = std::numeric_limits<double>::infinity();  // cores' worth of time that its control group may take
  std::string group;                                       // the control group that has this quota; empty without one
  std::string machine;                                     // tells machines apart
};

// This process. Files of the system are looked for under `root`, which tests give; there the cores stay the real ones.
UsableCores find_usable_cores(const std::string& root = "");

// The cores that a process of this machine may run on (0: this process); empty where the system does not tell.
std::vector<int> cores_of_process(int process);

// Whether ranks that may run on these cores can all run at the same time, in a group with this quota.
bool can_run_at_once(std::span<const std::vector<int>> cores_of_ranks, double quota);

// The threads of `rank` when all ranks have `usable`, at least 1: cores that several ranks may use are divided among
// them, so that ranks that a launcher has bound to cores of their own get these whole; so is the quota of a group.
int threads_of_rank(std::span<const UsableCores> usable, int rank);

// Collective: the number for this rank.
int share_of_cores(Communicator& ranks);

// Words for people: "2 of 64 cores, 1.5 of them by quota".
std::string describe(const UsableCores& usable);

}  // namespace lockstep
