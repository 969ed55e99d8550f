// SPDX-License-Identifier: Apache-2.0
// The parts of a training run, put together from options: model, optimizer, plan, variables, step.
#pragma once

#include <memory>
#include <optional>

#include "collectives/communicator.h"
#include "collectives/device/device_communicator.h"
#include "runtime/models/models.h"
#include "runtime/plan/planner.h"
#include "runtime/step/train_step.h"
#include "tools/training/train_options.h"

namespace lockstep {

// Model, optimizer and plan: everything that can be said without memory, data or other ranks.
struct PlannedRun {
  Model model;
  OptimizerSet optimizer;
  Plan plan;
};
// `asked`: what the user says of the plan; ranks and device are filled in. `ranks_per_node`: 0 where all are on one.
PlannedRun plan_run(const ModelOptions& options, const ModelSettings& model, PlanSettings asked, int64_t ranks,
                    int64_t ranks_per_node = 0, DeviceKind device = DeviceKind::cpu);

// For plan_run: the ranks of the first node where there are several nodes, otherwise 0.
int64_t ranks_per_node(const Communicator& communicator);

// The cores this rank may use, divided among the ranks that may use the same ones.
int default_threads(const Place& place);

// Where a rank computes.
struct RunDevice {
  Device device = {};
  DeviceTransport transport = DeviceTransport::automatic;
  int threads = 1;  // on the CPU
  Stream stream() const { return device.kind == DeviceKind::cpu ? Stream::cpu(threads) : Stream::cuda(device.index); }
};

// Collective. `device`: "cpu" or "cuda"; `threads`: 0 for the cores that the rank may use. Error(usage), and
// Error(device) or Error(launch) where ranks and GPUs do not fit.
RunDevice choose_run_device(Communicator& communicator, const std::string& device, DeviceTransport transport,
                            int64_t threads);

// A planned run in memory. Collective to build; `communicator` must outlive it. `options.device` is its own to fill in.
class TrainingRun {
 public:
  TrainingRun(PlannedRun planned, Communicator& communicator, const RunDevice& device, uint64_t seed,
              const StepOptions& options = {});

  const Model& model() const { return planned_.model; }
  const OptimizerSet& optimizer() const { return planned_.optimizer; }
  const Plan& plan() const { return planned_.plan; }
  int leaves() const { return plan().settings.leaves(); }
  Stream& stream() { return stream_; }
  Pool& pool() { return pool_; }
  VariableStore& variables() { return variables_; }
  TrainStep& step() { return step_; }
  // "nccl", "staged"; on the CPU what carries bytes between ranks.
  std::string_view transport() const {
    return device_communicator_ ? device_communicator_->transport() : communicator_.transport();
  }

 private:
  PlannedRun planned_;
  Communicator& communicator_;
  Stream stream_;
  Pool pool_;
  VariableStore variables_;
  // Of ranks with GPUs. It goes before memory does: freeing waits for streams, and those may wait for ranks that are
  // gone.
  std::unique_ptr<DeviceCommunicator> device_communicator_;
  TrainStep step_;
};

}  // namespace lockstep
