// SPDX-License-Identifier: Apache-2.0
// The options of a training step besides its plan.
#pragma once

#include <functional>
#include <vector>

#include "collectives/mesh_group.h"
#include "optimizers/schedules/schedule.h"
#include "runtime/step/audit/replica_audit.h"
#include "runtime/step/clip.h"

namespace lockstep {

struct StepOptions {
  ClipOptions clip = {};
  const Schedule* schedule = nullptr;              // schedule of the learning rate; null: the rate is the variable's
  DeviceCommunicator* device = nullptr;            // connects ranks with GPUs, over the same ranks; null on CPU ranks
  const std::vector<MeshGroup>* groups = nullptr;  // the axes that ops of the model reach over; null: none
  bool graph = false;                              // GPUs: record the step once and launch it as a whole from then on
  bool record_parts = false;                       // TrainStep::part_facts() has what parts came to
  bool audit_replicas = false;  // compare copies of weights and slots before every update, and mend those that differ
  std::function<void(const ReplicaRepair&)> on_repair = {};  // is told of it, on all ranks
};

}  // namespace lockstep
