// SPDX-License-Identifier: Apache-2.0
#include "tools/training/training_run.h"

#include <sched.h>

#include <algorithm>
#include <thread>

namespace lockstep {

PlannedRun plan_run(const ModelOptions& options, const ModelSettings& settings, PlanSettings asked, int64_t ranks,
                    int64_t ranks_per_node, DeviceKind device) {
  Model model = make_model(options.name, settings);
  OptimizerSet optimizer = choose_optimizers(options, model.variables);
  asked.mesh = {{"data", int(ranks)}};
  asked.copies = device == DeviceKind::cpu ? Copies::per_node : Copies::per_rank;
  asked.ranks_per_node = ranks_per_node;
  Plan plan = make_plan({.variables = model.variables, .optimizer = optimizer, .settings = std::move(asked)});
  return {std::move(model), std::move(optimizer), std::move(plan)};
}

int64_t ranks_per_node(const Communicator& communicator) {
  if (communicator.place().nodes == 1) return 0;
  return std::ranges::count(communicator.node_of(), 0);
}

int default_threads(const Place& place) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const int all = std::max(1, int(std::thread::hardware_concurrency()));
  const int mine = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : all;
  // A launcher that binds ranks has divided the cores already.
  return std::max(1, std::min(mine, all / place.local_size));
}

RunDevice choose_run_device(Communicator& communicator, const std::string& device, DeviceTransport transport,
                            int64_t threads) {
  RunDevice chosen{.transport = transport,
                   .threads = threads > 0 ? int(threads) : default_threads(communicator.place())};
  if (parse_device(device) == DeviceKind::cuda) chosen.device = choose_device(communicator, transport);
  return chosen;
}

namespace {
StepOptions with_device(StepOptions options, DeviceCommunicator* device) {
  options.device = device;
  return options;
}
}  // namespace

TrainingRun::TrainingRun(PlannedRun planned, Communicator& communicator, const RunDevice& device, uint64_t seed,
                         const StepOptions& options)
    : planned_(std::move(planned)),
      communicator_(communicator),
      stream_(device.stream()),
      pool_(stream_.device()),
      variables_(planned_.plan, planned_.model.variables, planned_.optimizer, communicator, pool_, seed,
                 device.device.kind == DeviceKind::cuda ? &stream_ : nullptr),
      device_communicator_(device.device.kind == DeviceKind::cpu
                               ? nullptr
                               : make_device_communicator(communicator, device.device, device.transport)),
      step_(
          communicator, variables_, planned_.optimizer,
          [this](Context& context, const LeafInput& leaf) { return planned_.model.forward(context, leaf); }, stream_,
          pool_, seed, with_device(options, device_communicator_.get())) {}

}  // namespace lockstep
