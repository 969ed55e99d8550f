// SPDX-License-Identifier: Apache-2.0
// A training of a shipped model, put together from the options of the command line.
#pragma once

#include <optional>

#include "collectives/communicator.h"
#include "runtime/models/model_list.h"
#include "runtime/plan/planner.h"
#include "runtime/trainer.h"
#include "tools/training/train_options.h"

namespace lockstep {

// Model, optimizer and plan: everything that can be known without memory, data or other ranks.
struct PlannedRun {
  Model model;
  OptimizerSet optimizer;
  Plan plan;
};
// `asked` is what the user says of the plan; ranks and device are filled in. `ranks_per_node`: 0 where all are on one.
PlannedRun plan_run(const ModelOptions& options, const ModelSettings& model, PlanSettings asked, int64_t ranks,
                    int64_t ranks_per_node = 0, DeviceKind device = DeviceKind::cpu);

// A shipped model in training, already planned. Collective to build; `communicator` must outlive it.
class TrainingRun {
 public:
  TrainingRun(PlannedRun planned, Communicator& communicator, const RunDevice& device, uint64_t seed,
              const StepOptions& options = {}, std::optional<Schedule> schedule = std::nullopt);

  const Model& model() const { return model_; }
  const OptimizerSet& optimizer() const { return trainer_.optimizer(); }
  const Plan& plan() const { return trainer_.plan(); }
  int parts() const { return plan().settings.parts(); }
  Stream& stream() { return trainer_.stream(); }
  Pool& pool() { return trainer_.pool(); }
  VariableStore& variables() { return trainer_.variables(); }
  Communicator& batch_axis() { return trainer_.batch_axis(); }
  TrainStep& step() { return trainer_.train_step(); }
  std::string_view transport() const { return trainer_.transport(); }
  std::string_view remark() const { return trainer_.remark(); }

 private:
  Model model_;
  Trainer trainer_;
};

}  // namespace lockstep
