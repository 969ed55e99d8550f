// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/tensor_updates.h"

#include <algorithm>

#include "kernels/pointwise.h"
#include "kernels/stochastic_rounding.h"
#include "runtime/plan/buckets.h"

namespace lockstep {
namespace {

View with_shape(View view, const Shape& shape) {
  view.shape = shape;
  return view;
}

View updated_tensor(const VariableStore& variables, const PlannedVariable& variable) {
  return with_shape(variables.memory().master_or_parameter(variable.offset, variable.offset + variable.shape.size()),
                    variable.shape);
}

}  // namespace

TensorUpdates::TensorUpdates(VariableStore& variables, const OptimizerSet& optimizer, std::span<const int32_t> tensors,
                             Pool& pool)
    : variables_(variables), numbers_(granule_numbers(variables.plan())) {
  int64_t scratch = 0, wide = 0;
  for (const int32_t v : tensors) {
    const PlannedVariable& variable = variables.plan().variables[size_t(v)];
    const Optimizer& updates = *optimizer.group(optimizer.group_of(variable.path)).optimizer;
    if (!updates.updates_by_tensor()) continue;
    scratch = std::max(scratch, updates.scratch_bytes(variable.shape));
    if (is_narrow(updated_tensor(variables, variable).dtype))
      wide = std::max(wide, variable.shape.size() * size_of(DType::f32));
  }
  if (scratch > 0) scratch_ = Buffer(pool, scratch, Purpose::scratch);
  if (wide > 0) wide_ = Buffer(pool, wide, Purpose::scratch);
}

void TensorUpdates::run(Stream& stream, const Optimizer& optimizer, const StepState& state, int32_t v, View gradient,
                        const GranuleMap& granules) {
  const PlannedVariable& variable = variables_.plan().variables[size_t(v)];
  const int64_t begin = variable.offset, end = begin + variable.shape.size();
  slots_.clear();
  for (size_t s = 0; s < optimizer.slots().size(); ++s)
    slots_.push_back(with_shape(variables_.memory().slot(int32_t(s), begin, end), variable.shape));
  const View kept = updated_tensor(variables_, variable);
  const bool narrow = is_narrow(kept.dtype);
  const View param = narrow ? wide_.view(DType::f32, variable.shape) : kept;
  if (narrow) launch(stream, Copy{param, kept});
  optimizer.update(stream, state,
                   {.param = param,
                    .grad = with_shape(gradient, variable.shape),
                    .slots = slots_,
                    .granules = granules,
                    .scratch = static_cast<std::byte*>(scratch_.data())});
  if (narrow)
    launch(stream,
           RoundStochastically{
               .out = kept, .in = param, .key = &state.decision->rounding_key, .first_number = numbers_[size_t(v)]});
  else
    variables_.memory().round_masters_into_parameters(stream, begin, end);
}

}  // namespace lockstep
