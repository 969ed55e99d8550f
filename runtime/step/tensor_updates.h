// SPDX-License-Identifier: Apache-2.0
// Updates of whole tensors by optimizers that work tensor by tensor, whatever dtype parameters are kept in.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device/memory.h"
#include "optimizers/optimizer_set.h"
#include "runtime/state/variable_store.h"

namespace lockstep {

class TensorUpdates {
 public:
  // Takes memory for the largest of `tensors` (variables of the plan that are in gradient sync). `variables` must
  // outlive it, and so must the optimizers that are handed in.
  TensorUpdates(VariableStore& variables, const OptimizerSet& optimizer, std::span<const int32_t> tensors, Pool& pool);

  // One of them, by `optimizer`, which works tensor by tensor; prepare() of the step is queued. `gradient`: f32, as
  // many elements. `granules`: from the first one of the variable on, with its factor, or none.
  void run(Stream& stream, const Optimizer& optimizer, const StepState& state, int32_t variable, View gradient,
           const GranuleMap& granules);

 private:
  VariableStore& variables_;
  std::vector<int64_t> numbers_;  // by variable: its first granule
  Buffer scratch_, wide_;         // of the optimizer; a narrow parameter without master in f32
  std::vector<View> slots_;
};

}  // namespace lockstep
