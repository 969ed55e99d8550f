// SPDX-License-Identifier: Apache-2.0
// lockstep bench train: whole training steps of the shipped models beside the matrix products they are made of.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "collectives/device/device_communicator.h"
#include "runtime/data/dataset.h"
#include "runtime/plan/plan_settings.h"
#include "tools/bench/benchmark.h"

namespace lockstep {

struct TrainBenchOptions {
  std::vector<std::string> models = {"mlp", "cnn"};
  std::string data = kDefaultDataFolder;
  PlanSettings plan;
  int64_t batch = 128;  // samples of each rank
  std::string device = "cpu";
  DeviceTransport transport = DeviceTransport::automatic;  // between GPUs
  int threads = 1;                                         // threads of each rank on the CPU
  int rounds = 9;
  double seconds_per_round = 0.5;
};

// Collective; rows are complete on rank 0. For each model: the FLOP/s of a rank, with the rate of the model's own
// products in the same round as the roof, and the images per second of all ranks.
std::vector<BenchmarkRow> bench_training(Communicator& communicator, const TrainBenchOptions& options);

}  // namespace lockstep
