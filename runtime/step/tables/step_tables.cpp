// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/tables/step_tables.h"

#include <algorithm>

#include "kernels/device/upload.h"
#include "kernels/granule.h"
#include "runtime/plan/buckets.h"

namespace lockstep {

StepTables::StepTables(const Plan& plan, const OptimizerSet& optimizer, Pool& pool, Stream& stream)
    : groups_of_optimizer_(optimizer.groups()), grouped_(optimizer.groups() > 1) {
  // What lies between variables is padding: it goes with the first variable, and holds zeros.
  std::vector<uint32_t> variable_of(size_t(plan.arena_elements / kGranule), 0);
  // Stochastic rounding numbers granules over variables, whatever their places in the arena.
  const std::vector<int64_t> first_granules = granule_numbers(plan);
  std::vector<int64_t> numbers;
  for (size_t v = 0; v < plan.variables.size(); ++v) {
    const PlannedVariable& variable = plan.variables[v];
    numbers_by_variable_.push_back(variable.in_gradient_sync ? int32_t(variables_.size()) : -1);
    if (!variable.in_gradient_sync) continue;
    const int64_t first = variable.offset / kGranule;
    const int64_t last = (variable.offset + variable.local_elements + kGranule - 1) / kGranule;
    std::fill(variable_of.begin() + first, variable_of.begin() + last, uint32_t(variables_.size()));
    numbers.push_back(first_granules[v] - first);
    group_of_.push_back(uint32_t(optimizer.group_of(variable.path)));
    variables_.push_back(int32_t(v));
  }
  own_group_ = group_of_;
  const std::vector<float> ones(variables_.size(), 1.0f);
  variable_of_ = upload(variable_of, pool, stream);
  factors_ = upload(ones, pool, stream);
  groups_ = upload(group_of_, pool, stream);
  numbers_ = upload(numbers, pool, stream);
  stream.synchronize();  // the vectors go out of scope
}

int32_t StepTables::number_of(int32_t variable) const { return numbers_by_variable_[size_t(variable)]; }

std::optional<int32_t> StepTables::group_of(int32_t variable) const {
  const int32_t number = number_of(variable);
  if (number < 0 || group_of_[size_t(number)] == kNoGroup) return std::nullopt;
  return int32_t(group_of_[size_t(number)]);
}

void StepTables::set_frozen(Stream& stream, int32_t variable, bool frozen) {
  const auto number = size_t(number_of(variable));
  group_of_[number] = frozen ? kNoGroup : own_group_[number];
  grouped_ = groups_of_optimizer_ > 1 || std::ranges::any_of(group_of_, [](uint32_t g) { return g != 0; });
  ++generation_;
  copy(stream, groups_.data(), group_of_.data(), int64_t(group_of_.size() * sizeof(uint32_t)));
  stream.synchronize();  // the numbers may change again
}

GranuleMap StepTables::granule_map(int32_t group, int64_t begin) const {
  return {.variable_of = static_cast<const uint32_t*>(variable_of_.data()) + begin / kGranule,
          .factors = factors(),
          .groups = grouped_ ? static_cast<const uint32_t*>(groups_.data()) : nullptr,
          .group = uint32_t(group),
          .numbers = static_cast<const int64_t*>(numbers_.data()),
          .first = begin / kGranule};
}

}  // namespace lockstep
