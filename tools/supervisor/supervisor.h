// SPDX-License-Identifier: Apache-2.0
// `lockstep run`: starts a training, watches its ranks, and starts it again after a fault, from a snapshot of the last
// step or from its newest checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

// With how many ranks a run is started again in which some were lost.
enum class RanksAfterFault : uint8_t {
  same,
  left,  // those that are left
};
inline constexpr RanksAfterFault kRanksAfterFault[] = {RanksAfterFault::same, RanksAfterFault::left};
std::string_view to_string(RanksAfterFault ranks);

struct SupervisorOptions {
  int64_t ranks = 0;                // processes that the launcher starts; 0: one process, without a launcher
  std::string launcher = "mpirun";  // words in front of "-np N PROGRAM ..."
  RanksAfterFault after_fault = RanksAfterFault::same;
  int64_t give_up_after = 3;   // failures at one step
  double backoff_seconds = 1;  // before the third life at one step; doubled with every further one
  int64_t snapshot_every = 1;  // steps; 0: no snapshots
  std::string incidents = "lockstep-incidents.jsonl";
};

// Runs `train` ("train --model mlp ...") until it has come to its end, and returns its exit code. Error(usage) for
// options that make no sense; Error(launch) when it has failed too often at one step. A run that ends for wrong usage,
// or because somebody asks it to by a signal, which is passed on, is not started again.
int supervise(const SupervisorOptions& options, const std::vector<std::string>& train);

}  // namespace lockstep
