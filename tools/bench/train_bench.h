// SPDX-License-Identifier: Apache-2.0
// lockstep bench train: whole training steps of the shipped models beside the matrix products they are made of, and
// what the time of a step goes to.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "collectives/device/device_communicator.h"
#include "runtime/data/dataset.h"
#include "runtime/plan/plan_settings.h"
#include "tools/bench/benchmark.h"
#include "tools/training/train_options.h"

namespace lockstep {

struct TrainBenchOptions {
  std::vector<std::string> models = {"mlp", "cnn"};
  ModelOptions model;  // of every model but its name; language models are trained by AdamW
  std::string data = kDefaultDataFolder;
  PlanSettings plan;
  int64_t batch = 0;  // samples of each rank; 0: 128 images, or as many sequences as have 2,048 tokens
  std::string device = "cpu";
  DeviceTransport transport = DeviceTransport::automatic;  // between GPUs
  int threads = 1;                                         // threads of each rank on the CPU
  int rounds = 9;
  double seconds_per_round = 0.5;
};

// Collective; rows are complete on rank 0. For each model: the FLOP/s of a rank, with the rate of the model's own
// products in the same round as the roof, and the images or tokens per second of all ranks. On the CPU there follow,
// from steps of their own, the milliseconds that each kernel takes of a step, and those outside of kernels.
std::vector<BenchmarkRow> bench_training(Communicator& communicator, const TrainBenchOptions& options);

}  // namespace lockstep
