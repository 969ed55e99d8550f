// SPDX-License-Identifier: Apache-2.0
// Bodies that run on several ranks: as threads in every build, and as the processes of mpirun in the *_mpi_test
// binaries.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/host/thread_ranks.h"
#include "tests/support/cases.h"

namespace lockstep {

// The ranks of mpirun, set by tests/support/mpi_main.cpp; null in binaries that run as one process.
inline Communicator*& launched_ranks() {
  static Communicator* ranks = nullptr;
  return ranks;
}

// body(comm) on `ranks` threads; the first exception wins.
inline void run_ranks(int ranks, const std::function<void(Communicator&)>& body) {
  run_thread_ranks({.ranks = ranks, .node_of = {}, .timeout = std::chrono::seconds(30)}, body);
}

// The groupings of ranks into nodes that the conformance suite runs on.
inline std::vector<ThreadRanks> thread_groups() {
  std::vector<ThreadRanks> groups;
  for (const int ranks : cases({1, 2, 4, 5, 6, 7, 8, 3})) groups.push_back({.ranks = ranks, .node_of = {}});
  using Nodes = std::vector<int>;
  for (const Nodes& node_of : cases({Nodes{0, 1, 0, 1},        // dealt round
                                     Nodes{0, 0, 1},           // uneven
                                     Nodes{0, 1},              //
                                     Nodes{0, 0, 1, 1, 2, 2},  // even
                                     Nodes{0, 1, 1, 2, 0}}))   // uneven and mixed
    groups.push_back({.ranks = int(node_of.size()), .node_of = node_of});
  return groups;
}

// body(comm) on every grouping of thread ranks, or once on the ranks of mpirun.
inline void on_every_group(const std::function<void(Communicator&)>& body) {
  if (Communicator* ranks = launched_ranks()) {
    ranks->set_timeout(std::chrono::seconds(30));
    return body(*ranks);
  }
  for (ThreadRanks& group : thread_groups()) {
    std::string nodes;
    for (const int node : group.node_of) nodes += str(" ", node);
    SCOPED_TRACE(str(group.ranks, " thread ranks", nodes.empty() ? "" : " on nodes", nodes));
    group.timeout = std::chrono::seconds(30);
    run_thread_ranks(group, body);
  }
}

}  // namespace lockstep
