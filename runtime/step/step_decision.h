// SPDX-License-Identifier: Apache-2.0
// The decision of a step, taken once its gradients are summed and alike on every rank and device: whether anything is
// updated, the scale of the gradients, the rate, and that the step counts. The kernels decide where the gradients are
// (optimizers/step_verdict.h); the host learns of it only when somebody asks for the outcome.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "collectives/communicator.h"
#include "kernels/device/memory.h"
#include "kernels/device/transfer.h"
#include "optimizers/optimizer_set.h"
#include "optimizers/step_verdict.h"
#include "runtime/data/batch.h"
#include "runtime/state/variable_store.h"
#include "runtime/step/audit/replica_audit.h"
#include "runtime/step/gradient_norms.h"
#include "runtime/step/step_gate.h"
#include "runtime/step/step_options.h"
#include "runtime/step/tables/rate_table.h"
#include "runtime/step/tables/step_tables.h"

namespace lockstep {

class StepDecision {
 public:
  // Collective. All references outlive it. `seed` is that of stochastic rounding.
  StepDecision(Communicator& ranks, VariableStore& variables, const OptimizerSet& optimizer, const StepTables& tables,
               const StepOptions& options, Pool& pool, Stream& stream, uint64_t seed);

  // Called before the passes of a step: takes the learning rate of the schedule.
  void begin_step(int64_t step) {
    step_ = step;
    gate_.begin_step(step);
    rates_.cover_next_step();
  }
  // The cells, on the device, into which parts of the batch and ranks enter their numbers.
  StepCells cells() const;
  // Called before the first part of a step.
  void clear_cells(Stream& stream) { clear(stream, view_of_cells()); }
  // Collective. Adds up what ranks have entered into the cells, and what each has seen of the sums. On the host it
  // throws Error(collective) where ranks have not issued the same collectives (runtime/step/step_gate.h).
  void exchange(const GradientReducer& reducer, Stream& stream);
  // Collective, after the exchange: whether copies of weights and slots differed, which are equal again now. The step
  // is then to be taken again, because it has read what was wrong. Error(numbers) where they cannot be mended.
  bool mend_replicas();
  // Decides, counts the step and computes what the update of every group needs. The counter advances only here.
  void decide(GradientReducer& reducer, int64_t global_count, const LossDivisor& divisor, Stream& stream);

  // The state that update() of one group is given.
  StepState state(int32_t group) const;
  const StepScalars* scalars() const { return static_cast<const StepScalars*>(decision_.data()); }

  // Queues a copy of the outcome to the host; outcome() has it once `stream` is through.
  void fetch_outcome(Stream& stream);
  const StepOutcome& outcome() const { return *static_cast<const StepOutcome*>(fetched_.data()); }

  // Changes when a recorded step holds outdated addresses or numbers.
  int generation() const { return rates_.generation(); }

 private:
  void exchange_audit();
  int32_t first_not_finite(const GradientReducer& reducer) const;
  StepVerdict verdict(int64_t global_count, const LossDivisor& divisor) const;
  // With those of the audit, which lie behind the others where they travel together.
  View view_of_cells() const { return cells_.view(DType::f64, Shape{cells_.bytes() / size_of(DType::f64)}); }

  Communicator& ranks_;
  DeviceCommunicator* device_;
  VariableStore& variables_;
  OptimizerSet optimizer_;
  const StepTables& tables_;
  ClipOptions clip_;
  uint64_t seed_;
  std::function<void(const ReplicaRepair&)> on_repair_;
  int64_t step_ = -1;
  StepGate gate_;
  RateTable rates_;
  std::optional<GradientNorms> norms_;  // present where clipping needs norms, and on GPUs
  std::optional<ReplicaAudit> audit_;
  std::vector<double> audit_cells_;  // of GPUs, which tell each other on the host
  Buffer cells_, decision_, outcome_;
  std::vector<Buffer> constants_;  // by group
  PinnedBuffer fetched_;
};

}  // namespace lockstep
