// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/arena_update.h"

#include <algorithm>

#include "kernels/pointwise.h"
#include "optimizers/moving_average.h"
#include "runtime/plan/owners.h"
#include "runtime/step/tensor_owners.h"

namespace lockstep {
namespace {

Range elements_of(const PlannedVariable& variable) {
  return {variable.offset, variable.offset + variable.local_elements};
}

}  // namespace

ArenaUpdate::ArenaUpdate(const Communicator& ranks, VariableStore& variables, const OptimizerSet& optimizer,
                         StepTables& tables, const std::vector<GradientBucket>& buckets, bool by_variable_norm,
                         Pool& pool)
    : variables_(variables),
      optimizer_(optimizer),
      tables_(tables),
      by_variable_norm_(by_variable_norm),
      ranges_(updated_ranges(variables.plan(), buckets, ranks.rank())) {
  const Plan& plan = variables.plan();
  for (const int32_t v : tables.variables())
    if (optimizer.bounds_of(plan.variables[size_t(v)].path)) bounded_.push_back(v);
  tensors_ = tensors_of_rank(plan, optimizer, ranks.place());
  if (tensors_.empty()) return;
  tensor_updates_.emplace(variables, optimizer, tensors_, pool);
  int64_t largest = 1;
  for (const int32_t v : tensors_) largest = std::max(largest, plan.variables[size_t(v)].local_elements);
  if (plan.settings.copies == Copies::per_node)
    gathered_ = Buffer(pool, largest * size_of(DType::f32), Purpose::scratch);
}

void ArenaUpdate::run(const StepDecision& decision, GradientReducer& reducer, Stream& stream) {
  for (int32_t group = 0; group < optimizer_.groups(); ++group)
    if (!optimizer_.group(group).optimizer->updates_by_tensor())
      for (const Range& range : ranges_) update_range(group, range, decision, reducer, stream);
  if (optimizer_.any_updates_by_tensor()) update_tensors(decision, reducer, stream);
  if (optimizer_.average()) average(decision, stream);
  keep_within_bounds(decision, stream);
}

void ArenaUpdate::update_range(int32_t group, Range range, const StepDecision& decision, const GradientReducer& reducer,
                               Stream& stream) {
  const Optimizer& optimizer = *optimizer_.group(group).optimizer;
  const auto [begin, end] = range;
  slots_.clear();
  for (size_t s = 0; s < optimizer.slots().size(); ++s)
    slots_.push_back(variables_.memory().slot(int32_t(s), begin, end));
  UpdateOperands operands{.param = variables_.memory().master_or_parameter(begin, end),
                          .grad = reducer.sums(range),
                          .slots = slots_,
                          .working_copy = variables_.memory().working_copy(begin, end)};
  const bool narrow = is_narrow(operands.param.dtype) || operands.working_copy.data != nullptr;
  if (by_variable_norm_ || tables_.grouped() || narrow) operands.granules = tables_.granule_map(group, begin);
  optimizer.update(stream, decision.state(group), operands);
}

// Ranks that share memory read each tensor from the slices of all of them, and write to parameters of all.
void ArenaUpdate::update_tensors(const StepDecision& decision, GradientReducer& reducer, Stream& stream) {
  reducer.meet();
  for (const int32_t v : tensors_) {
    const std::optional<int32_t> group = tables_.group_of(v);
    if (!group) continue;
    const PlannedVariable& variable = variables_.plan().variables[size_t(v)];
    const View scratch{gathered_.data(), DType::f32, stream.device().kind, Shape{variable.local_elements}};
    const View gradient = reducer.gathered(size_t(variable.bucket), elements_of(variable), scratch, stream);
    GranuleMap granules;
    if (by_variable_norm_) granules = tables_.granule_map(*group, variable.offset);
    granules.groups = nullptr;  // all of it is this group's
    tensor_updates_->run(stream, *optimizer_.group(*group).optimizer, decision.state(*group), v, gradient, granules);
  }
  reducer.meet();
}

void ArenaUpdate::average(const StepDecision& decision, Stream& stream) {
  const MovingAverage& average = *optimizer_.average();
  for (const auto& [begin, end] : ranges_) {
    // Frozen variables keep their values and averages.
    const GranuleMap granules = tables_.grouped() ? tables_.granule_map(0, begin) : GranuleMap{};
    launch(stream, AverageParameters{.momentum = average.momentum,
                                     .overwrite_every = average.overwrite_every,
                                     .iteration = variables_.scalars().iteration_cell(),
                                     .decision = decision.scalars(),
                                     .param = variables_.memory().master_or_parameter(begin, end),
                                     .average = variables_.memory().slot(optimizer_.average_slot(), begin, end),
                                     .granules = granules});
    if (average.overwrite_every > 0) variables_.memory().round_masters_into_parameters(stream, begin, end);
  }
}

// Calls visit(variable, begin, end) for all elements of these variables that this rank updates; a frozen variable has
// none.
template <class Visit>
void ArenaUpdate::for_each_moving(std::span<const int32_t> variables, const Visit& visit) const {
  for (const int32_t v : variables) {
    if (!tables_.group_of(v)) continue;
    const PlannedVariable& variable = variables_.plan().variables[size_t(v)];
    const Range whole = elements_of(variable);
    for (const Range& range : ranges_) {
      const int64_t begin = std::max(range.begin, whole.begin), end = std::min(range.end, whole.end);
      if (begin < end) visit(variable, begin, end);
    }
  }
}

void ArenaUpdate::keep_within_bounds(const StepDecision& decision, Stream& stream) {
  for_each_moving(bounded_, [&](const PlannedVariable& variable, int64_t begin, int64_t end) {
    launch(stream, KeepWithin{variables_.memory().master_or_parameter(begin, end), *optimizer_.bounds_of(variable.path),
                              decision.scalars()});
    variables_.memory().round_masters_into_parameters(stream, begin, end);
  });
}

void ArenaUpdate::take_averages(GradientReducer& reducer, Stream& stream) {
  if (!optimizer_.average()) return;
  reducer.meet();  // others may still read the parameters of the last step
  for_each_moving(tables_.variables(), [&](const PlannedVariable&, int64_t begin, int64_t end) {
    launch(stream, Copy{variables_.memory().master_or_parameter(begin, end),
                        variables_.memory().slot(optimizer_.average_slot(), begin, end)});
    variables_.memory().round_masters_into_parameters(stream, begin, end);
  });
  reducer.meet();
}

}  // namespace lockstep
