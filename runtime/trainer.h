// SPDX-License-Identifier: Apache-2.0
// Training for programs of one's own: a model, options, batches. Plan, memory, communication and the step come from it,
// with the same bits on any number of ranks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/device_mesh.h"
#include "runtime/data/batch.h"
#include "runtime/plan/planner.h"
#include "runtime/run_device.h"
#include "runtime/state/variable_store.h"
#include "runtime/step/train_step.h"
#include "runtime/variables/parameter_groups.h"

namespace lockstep {

struct TrainerOptions {
  OptimizerChoice optimizer = {};        // name, options, rules for groups, average, loss scaling (docs/optimizers.md)
  std::string schedule = {};             // of the learning rate, "cosine(steps=1000)"; empty: it stays
  PlanSettings plan = {};                // without a mesh: data=ranks
  std::string precision = "f32";         // of matrices: f32, bf16, bf16-stochastic, f16 (docs/precision.md)
  std::vector<std::string> freeze = {};  // paths of variables that are not trained
  ClipOptions clip = {};
  std::string device = "cpu";  // or cuda: a GPU for each rank
  DeviceTransport transport = DeviceTransport::automatic;
  bool graph = false;  // on GPUs: a step is recorded once
  int threads = 0;     // of a CPU rank; 0: the cores that it may use
  uint64_t seed = 1;   // of first values, dropout and stochastic rounding
};

// What can be said without memory, data or other ranks.
struct PlannedTraining {
  VariableTable variables;
  OptimizerSet optimizer;
  std::optional<Schedule> schedule;
  Plan plan;
};

// What a model came to on a batch that it was not trained on.
struct Evaluation {
  double loss = 0;  // mean over the batch
  std::vector<ReportedSum> sums;
  int64_t samples = 0;
};

class Trainer {
 public:
  // Collective over `ranks`, which outlives the trainer. Plans, sees to it that all ranks have the same plan and
  // options (Error(mismatch) names who differs), allocates, and gives every rank the first values of rank 0.
  // Error(usage) and Error(plan) name the option or the variable that is not possible.
  Trainer(Communicator& ranks, VariableTable variables, Forward model, const TrainerOptions& options = {})
      : Trainer(ranks, prepare(ranks, std::move(variables), options), std::move(model), options) {}
  // The same for what was planned and agreed on before.
  Trainer(Communicator& ranks, PlannedTraining planned, Forward model, const RunDevice& device, uint64_t seed,
          const StepOptions& options = {});
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  // Collective: one step on the whole batch, which every rank gives alike; each reads the rows that it computes. Views
  // may be reused on return. Error(numbers) on every rank when the loss is not finite: nothing has changed then.
  StepReport run(const Batch& batch);
  // Collective: runs the model without training. Averages are not taken over; parts and their order are a step's.
  Evaluation evaluate(const Batch& batch);

  // Steps taken so far; after resume() the steps that the file has counted.
  int64_t step() const { return next_step_; }
  // The line of the ledger (docs/design.md) that a step with this report has: equal on all ranks, and equal for all
  // numbers of ranks. Reads all variables.
  std::string ledger_line(const StepReport& report) const;

  // Collective: save() has rank 0 write all state to one safetensors file, whole or not at all; resume() reads it on
  // any number of ranks and returns the step to go on with.
  void save(const std::string& path);
  int64_t resume(const std::string& path);

  const Plan& plan() const { return planned_.plan; }
  const OptimizerSet& optimizer() const { return planned_.optimizer; }
  VariableStore& variables() { return store_; }
  TrainStep& train_step() { return step_; }
  // The ranks that share the batch out, with the log of a step's collectives.
  Communicator& batch_axis() { return batch_axis_; }
  Stream& stream() { return stream_; }
  Pool& pool() { return pool_; }
  // "nccl", "staged"; on the CPU what carries bytes between ranks.
  std::string_view transport() const;
  // What people should hear about that choice; empty where it is the usual one.
  std::string_view remark() const;

 private:
  struct Prepared {
    RunDevice device;
    PlannedTraining planned;
  };
  static Prepared prepare(Communicator& ranks, VariableTable variables, const TrainerOptions& options);
  Trainer(Communicator& ranks, Prepared prepared, Forward model, const TrainerOptions& options)
      : Trainer(ranks, std::move(prepared.planned), std::move(model), prepared.device, options.seed,
                {.clip = options.clip, .graph = options.graph}) {}
  StepOptions step_options(const StepOptions& options);
  const Batch& with_ids(const Batch& batch);
  std::vector<BatchPart> own_parts(const Batch& batch) const;
  void learn_sums(const Batch& batch);

  Communicator& ranks_;
  PlannedTraining planned_;
  Forward model_;
  DeviceMesh mesh_;
  Communicator& batch_axis_;
  Stream stream_;
  Pool pool_;
  VariableStore store_;
  // It goes before memory does: freeing waits for streams, and those may wait for ranks that are gone.
  std::unique_ptr<DeviceCommunicator> device_communicator_;
  std::vector<MeshGroup> groups_;
  TrainStep step_;
  int64_t next_step_ = 0;
  std::vector<int64_t> ids_;  // of samples that were given without
  Batch with_ids_;
  std::vector<std::string> sum_names_;
  LossDivisor divisor_;
};

// Everything before memory: the ranks and the device complete `asked`. Error(usage), Error(plan).
PlannedTraining plan_training(VariableTable variables, const TrainerOptions& options, int64_t ranks,
                              int64_t ranks_per_node, DeviceKind device);

}  // namespace lockstep
