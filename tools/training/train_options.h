// SPDX-License-Identifier: Apache-2.0
// What a user asks of `lockstep train`, and what can be said against it before any data is read.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "collectives/reduce_mode.h"
#include "optimizers/optimizer_set.h"
#include "optimizers/schedules/schedule.h"
#include "runtime/data/dataset.h"
#include "runtime/plan/precision.h"
#include "runtime/step/clip.h"
#include "runtime/variables/variables.h"

namespace lockstep {

// What the memory of a model is planned by; shared by train and explain.
struct PlanOptions {
  std::string model = "mlp";
  std::string optimizer = "adam";
  std::map<std::string, double> hyperparameters =
      {};  // "learning_rate", "momentum", ...; absent: the optimizer's default
  std::string reduce = "tree";
  std::string reduce_dtype = "f32";
  int64_t virtual_ranks = 0;  // 0: as many as ranks
  int64_t accumulation = 1;   // micro-batches of a leaf, for one synchronisation
  double dropout = 0;
  std::string precision = "f32";         // the name of one of kPrecisions
  std::vector<std::string> freeze = {};  // paths of variables that are not to be trained
  std::vector<std::string> groups = {};  // rules as in runtime/variables/parameter_groups.h
  std::optional<double> ema_momentum = std::nullopt;
  std::optional<int64_t> ema_overwrite_every = std::nullopt;
  std::optional<double> loss_scale = std::nullopt;
  std::optional<int64_t> loss_scale_growth_steps = std::nullopt;
  double bucket_mib = 4;
};

struct TrainOptions {
  PlanOptions plan;
  std::string data = kDefaultDataFolder;
  std::string device = "cpu";
  std::string transport = "auto";  // of gradients between GPUs
  bool graph = false;              // of a GPU: record a step, launch it as a whole
  int64_t epochs = 5;
  int64_t steps = 0;  // above 0: instead of epochs
  int64_t batch = 128;
  int64_t seed = 1;
  int64_t threads = 0;  // 0: the cores this rank may use
  int64_t ranks = 0;    // above 0: as many ranks as threads of this process
  double timeout_seconds = 60;
  std::optional<std::string> schedule = std::nullopt;  // text of the learning rate's; without it the rate is constant
  std::string progress = "auto";                       // auto | terminal | plain
  ClipOptions clip = {};
  std::string ledger, metrics, save;
};

// At least one byte.
int64_t bucket_bytes(const PlanOptions& options);

// "cpu" or "cuda". Error(usage); Error(device) where cuda is asked for and there is none, naming what was looked for.
DeviceKind parse_device(const std::string& device);

// Error(usage) unless it is a number of threads, or 0 for the cores there are.
void check_threads(int64_t threads);

// Narrows weights and freezes what the options say, and shares the other variables out; the loss of f16 weights is
// scaled. Error(usage, plan).
OptimizerSet choose_optimizers(const PlanOptions& options, VariableTable& variables);

// Error(usage) for what cannot be planned.
void check_plan_options(const PlanOptions& options);

// Throws Error(usage) for what cannot be meant with this number of ranks.
void check_train_options(const TrainOptions& options, int ranks);

// Adds "NAME=VALUE", as given with `option`, to the hyper-parameters. Error(usage) for what is not such a text or names
// one that has a value already.
void set_hyperparameter(PlanOptions& options, const std::string& option, const std::string& text);

// The run in words, for ledger and agreement: everything that decides the numbers, and nothing that does not (ranks,
// threads, devices, buckets, files).
std::string run_description(const TrainOptions& options, const OptimizerSet& optimizer,
                            const std::optional<Schedule>& schedule, int64_t virtual_ranks);

}  // namespace lockstep
