// SPDX-License-Identifier: Apache-2.0
// The update of a step: the optimizer of its group updates every element that this rank owns, then averages, bounds and
// narrow copies follow. It works on ranges that the plan's owners give out, whatever the device and whoever else shares
// the memory.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/gradients/gradient_reducer.h"
#include "kernels/device/memory.h"
#include "optimizers/optimizer_set.h"
#include "runtime/state/variable_store.h"
#include "runtime/step/step_decision.h"
#include "runtime/step/tables/step_tables.h"
#include "runtime/step/tensor_updates.h"

namespace lockstep {

class ArenaUpdate {
 public:
  // `buckets` are the reducer's, with their owners. All references outlive this.
  ArenaUpdate(const Communicator& ranks, VariableStore& variables, const OptimizerSet& optimizer, StepTables& tables,
              const std::vector<GradientBucket>& buckets, bool by_variable_norm, Pool& pool);

  // Called after StepDecision::decide(). Ranks that share memory see each other's results after reducer.meet().
  void run(const StepDecision& decision, GradientReducer& reducer, Stream& stream);
  // Replaces parameters by their running averages, where there are any; frozen variables stay.
  void take_averages(GradientReducer& reducer, Stream& stream);

 private:
  void update_range(int32_t group, Range range, const StepDecision& decision, const GradientReducer& reducer,
                    Stream& stream);
  void update_tensors(const StepDecision& decision, GradientReducer& reducer, Stream& stream);
  void average(const StepDecision& decision, Stream& stream);
  void keep_within_bounds(const StepDecision& decision, Stream& stream);
  template <class Visit>
  void for_each_moving(std::span<const int32_t> variables, const Visit& visit) const;

  VariableStore& variables_;
  OptimizerSet optimizer_;
  StepTables& tables_;
  bool by_variable_norm_;         // the gradients of each variable have their own factor
  std::vector<Range> ranges_;     // elements of the arena that this rank updates, of one dtype each
  std::vector<int32_t> tensors_;  // variables of the plan that it updates as a whole
  std::vector<int32_t> bounded_;  // variables of the plan that have bounds
  Buffer gathered_;               // a whole gradient whose parts lie in several slices
  std::optional<TensorUpdates> tensor_updates_;
  std::vector<View> slots_;  // slots of the current range
};

}  // namespace lockstep
