// SPDX-License-Identifier: Apache-2.0
// Ranks as threads of one process, with the same algorithms as MPI ranks; a single rank is the serial case.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "collectives/communicator.h"

namespace lockstep {

struct ThreadRanks {
  int ranks = 1;
  std::vector<int> node_of;  // the pretended node of each rank, numbered by lowest rank; empty means one node
  std::chrono::milliseconds timeout{60'000};
};

// Runs body(communicator) on one thread per rank and returns when all have finished. When a rank throws, the others
// leave their waits, and the exception that came first is thrown.
void run_thread_ranks(const ThreadRanks& options, const std::function<void(Communicator&)>& body);
inline void run_thread_ranks(int ranks, const std::function<void(Communicator&)>& body) {
  run_thread_ranks(ThreadRanks{.ranks = ranks, .node_of = {}}, body);
}

// The communicator of one rank alone.
std::unique_ptr<Communicator> make_serial_communicator();

}  // namespace lockstep
