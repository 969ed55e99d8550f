// SPDX-License-Identifier: Apache-2.0
// Updates whole tensors with optimizers that work tensor by tensor, whatever dtype parameters are kept in.
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
  // Takes memory for the largest of `tensors` (variables of the plan that are in gradient sync). `variables` and the
  // optimizers that are handed in must outlive it.
  TensorUpdates(VariableStore& variables, const OptimizerSet& optimizer, std::span<const int32_t> tensors, Pool& pool);

  // Updates one of them with `optimizer`, which works tensor by tensor; prepare() of the step is queued. `gradient` is
  // f32 with as many elements. `granules` start at the variable's first one, with its factor, or are none.
  void run(Stream& stream, const Optimizer& optimizer, const StepState& state, int32_t variable, View gradient,
           const GranuleMap& granules);

 private:
  VariableStore& variables_;
  std::vector<int64_t> numbers_;  // by variable: its first granule
  Buffer scratch_, wide_;         // scratch of the optimizer; a narrow parameter without master in f32
  std::vector<View> slots_;
};

}  // namespace lockstep
