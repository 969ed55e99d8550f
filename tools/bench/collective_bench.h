// SPDX-License-Identifier: Apache-2.0
// lockstep bench collectives: this program's all-reduce beside MPI_Allreduce, in turn in the same run.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <vector>

#include "collectives/communicator.h"
#include "tools/bench/benchmark.h"

namespace lockstep {

struct CollectiveBenchOptions {
  int64_t smallest_bytes = 4 << 10;
  int64_t largest_bytes = 64 << 20;
  int64_t factor = 4;  // factor from one size to the next
  int rounds = 7;
  double seconds_per_sample = 5e-3;
  int threads = 1;
};

struct CollectiveBenchLine {
  int64_t bytes = 0;
  std::string algorithm;  // "window", "staged", "mpi"
  double seconds = 0;     // of one call on the slowest rank; median over rounds
  double of_mpi = 0;      // median of the rounds' ratios: time of MPI_Allreduce / this time; 0 without MPI
  int64_t wrong = 0;      // elements that are not the sum, on all ranks
};

// Collective; all ranks get the same lines. Sizes ascend; the algorithms of a size follow each other.
std::vector<CollectiveBenchLine> bench_collectives(Communicator& ranks, const CollectiveBenchOptions& options = {});

// Prints the columns of nccl-tests: size, count, type, redop, time, algbw, busbw, #wrong.
void print_collectives(std::ostream& out, const std::vector<CollectiveBenchLine>& lines, int ranks);
// Bus bandwidth (the bytes a ring would move); the roof is that of MPI_Allreduce.
std::vector<BenchmarkRow> collective_rows(const std::vector<CollectiveBenchLine>& lines, int ranks);

}  // namespace lockstep
