// SPDX-License-Identifier: Apache-2.0
// Variables in memory: what a plan says, allocated. Parameters and slots are one copy per node that every rank of the
// node reads; scalars are a replica in every rank.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "collectives/communicator.h"
#include "kernels/device/memory.h"
#include "optimizers/optimizer.h"
#include "runtime/plan.h"
#include "runtime/tensor.h"
#include "runtime/variables.h"

namespace lockstep {

class VariableStore {
 public:
  // Collective. Throws Error(plan) for a plan that cannot be run (check_runnable). Allocates by the plan, computes
  // first values on rank 0 and broadcasts them; `declarations` and `optimizer` are those that the plan was made from.
  // `plan` and `pool` must outlive the store.
  VariableStore(const Plan& plan, const VariableTable& declarations, const Optimizer& optimizer,
                Communicator& communicator, Pool& pool, uint64_t seed);
  VariableStore(const VariableStore&) = delete;
  VariableStore& operator=(const VariableStore&) = delete;
  ~VariableStore();

  const Plan& plan() const { return plan_; }
  // Values of the model's variables by Variable::index, borrowed.
  std::span<Tensor> values() { return values_; }
  // Any variable of the plan.
  View view(const PlannedVariable& variable) const;

  // Elements [begin, end) of the trainable section, and of the arena of one slot.
  View parameters(int64_t begin, int64_t end) const;
  View slot(int32_t slot, int64_t begin, int64_t end) const;

  // The optimizer's scalars. The counter counts committed steps.
  int64_t iteration() const { return *static_cast<const int64_t*>(view(*iteration_).data); }
  double learning_rate() const { return *static_cast<const double*>(view(*learning_rate_).data); }
  int64_t& iteration() { return *static_cast<int64_t*>(view(*iteration_).data); }
  double& learning_rate() { return *static_cast<double*>(view(*learning_rate_).data); }
  // Values of Optimizer::scalars(), in their order.
  std::span<double> optimizer_state();

 private:
  void initialize(const VariableTable& declarations, const Optimizer& optimizer, uint64_t seed);
  void broadcast(Communicator& communicator);
  char* section(const PlannedVariable& variable) const;
  PlannedMemory memory() const;
  PlannedMemory node_copy() const;

  const Plan& plan_;
  Pool& pool_;
  bool holds_shared_copy_;  // whether this rank's ledger carries the node's copy
  std::unique_ptr<SharedWindow> shared_;
  float* base_ = nullptr;  // trainable, frozen, then one arena per slot
  int64_t shared_elements_ = 0;
  std::vector<int64_t> local_;  // the local section, in 8-byte cells
  std::vector<Tensor> values_;
  const PlannedVariable* iteration_ = nullptr;
  const PlannedVariable* learning_rate_ = nullptr;
  size_t optimizer_scalars_;
};

}  // namespace lockstep
