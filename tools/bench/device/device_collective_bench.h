// SPDX-License-Identifier: Apache-2.0
// lockstep bench collectives --device cuda: collectives between GPUs, measured and printed as nccl-tests do.
#pragma once

#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

#include "collectives/device/device_communicator.h"
#include "tools/bench/benchmark.h"
#include "tools/bench/collective_bench.h"

namespace lockstep {

struct DeviceCollectiveLine {
  // Input and output are apart, or in one array.
  struct Way {
    bool offered = false;
    double seconds = 0;  // of one call on the slowest rank; median over rounds
    double of_roof = 0;  // median of the rounds' ratios: time of the roof / this time
    int64_t wrong = 0;   // elements that are not what they should be, on all ranks
  };
  std::string_view kind;  // "all_reduce", "reduce_scatter", "all_gather", "broadcast"
  int64_t bytes = 0;      // size of the whole array
  int64_t count = 0;      // elements that one rank gives
  Way apart = {}, in_place = {};
};

struct DeviceCollectiveBench {
  std::string transport;                    // "nccl", "staged"
  std::vector<std::string> devices;         // by rank, in words
  std::vector<DeviceCollectiveLine> lines;  // by kind; sizes ascend
  int ranks() const { return int(devices.size()); }
};

// Collective; all ranks get the same result. `device` is the one that choose_device() gave.
DeviceCollectiveBench bench_device_collectives(Communicator& ranks, Device device, DeviceTransport transport,
                                               const CollectiveBenchOptions& options = {});

// Prints a table for each collective in the columns of nccl-tests, with its footer.
void print_device_collectives(std::ostream& out, const DeviceCollectiveBench& bench);
// Bus bandwidth (for one rank alone, which moves nothing, bytes of the array per second). The roof is a copy of the
// same bytes in the same run: within the GPU, or to the host and back where collectives go that way.
std::vector<BenchmarkRow> device_collective_rows(const DeviceCollectiveBench& bench);

}  // namespace lockstep
