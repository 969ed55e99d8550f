// SPDX-License-Identifier: Apache-2.0
#include "tools/training/training_run.h"

#include <utility>

#include "tools/training/tasks/chosen_model.h"

namespace lockstep {

PlannedRun plan_run(const ModelOptions& options, const ModelSettings& settings, PlanSettings asked, int64_t ranks,
                    int64_t ranks_per_node, DeviceKind device) {
  Model model = make_chosen_model(options, settings);
  OptimizerSet optimizer = choose_optimizers(options, model.variables);
  asked.mesh = {{"data", int(ranks)}};
  asked.copies = device == DeviceKind::cpu ? Copies::per_node : Copies::per_rank;
  asked.ranks_per_node = ranks_per_node;
  Plan plan = make_plan({.variables = model.variables, .optimizer = optimizer, .settings = std::move(asked)});
  return {std::move(model), std::move(optimizer), std::move(plan)};
}

TrainingRun::TrainingRun(PlannedRun planned, Communicator& communicator, const RunDevice& device, uint64_t seed,
                         const StepOptions& options, std::optional<Schedule> schedule)
    : model_(planned.model),
      trainer_(
          communicator,
          {std::move(planned.model.variables), std::move(planned.optimizer), std::move(schedule),
           std::move(planned.plan)},
          [this](Context& context, const Batch& batch) { return model_.forward(context, batch); }, device, seed,
          options) {}

}  // namespace lockstep
