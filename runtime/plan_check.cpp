// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan_check.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

namespace lockstep {
namespace {

void demand(bool holds, const PlannedVariable& variable, std::string_view what) {
  check(holds, ErrorCode::plan, [&] {
    return str("the plan breaks a rule: ", variable.path, " (", to_string(variable.role), ", ",
               to_string(variable.dtype), " ", to_string(variable.shape), ") ", what);
  });
}

void check_scalar_state(const PlannedVariable& variable) {
  demand(variable.shape.rank() == 0, variable, "must be a scalar");
  demand(variable.section == Section::scalars, variable, "must be a replica in every rank");
  demand(variable.aggregation == Aggregation::only_first_replica, variable,
         "must have aggregation only_first_replica: summing or averaging would count ranks");
  demand(variable.role != Role::counter || variable.dtype == DType::i64, variable, "must be i64 to stay exact");
}

void check_variable(const Plan& plan, const PlannedVariable& variable) {
  const bool trainable = variable.role == Role::parameter;
  if (variable.role == Role::counter || variable.role == Role::hyperparameter) check_scalar_state(variable);
  demand(variable.layout.axes.size() == size_t(variable.shape.rank()), variable,
         "must have a layout with one entry per dimension");
  demand(variable.layout.is_replicated(), variable, "must be replicated on every axis");
  demand(variable.on_tape == trainable, variable, trainable ? "must be on the tape" : "must be off the tape");
  demand(variable.in_gradient_sync == trainable, variable,
         trainable ? "must be in gradient sync" : "must be outside gradient sync");
  demand(!variable.on_tape || is_floating(variable.dtype), variable, "must be floating to be differentiated");
  int memberships = 0;
  for (const PlannedBucket& bucket : plan.buckets)
    for (const int32_t member : bucket.variables) {
      if (&plan.variables[size_t(member)] != &variable) continue;
      ++memberships;
      demand(variable.offset >= bucket.begin && variable.offset + variable.shape.size() <= bucket.end, variable,
             "must lie inside its bucket");
    }
  demand(memberships == (trainable ? 1 : 0), variable,
         trainable ? "must be in exactly one bucket" : "must be in no bucket");
}

void check_slot(const Plan& plan, const PlannedVariable& slot) {
  const auto parameter = std::find_if(plan.variables.begin(), plan.variables.end(), [&](const PlannedVariable& v) {
    return v.role == Role::parameter && slot.path.starts_with(v.path + "/");
  });
  demand(parameter != plan.variables.end(), slot, "must belong to a trainable parameter");
  demand(slot.offset == parameter->offset && slot.shape == parameter->shape && slot.layout == parameter->layout, slot,
         "must have the place, shape and layout of its parameter");
}

void check_overlaps(const Plan& plan) {
  // Ranges by section and slot, then by offset.
  std::map<std::pair<int, int32_t>, std::vector<const PlannedVariable*>> sections;
  for (const PlannedVariable& variable : plan.variables)
    if (variable.shape.size() > 0) sections[{int(variable.section), variable.slot}].push_back(&variable);
  for (auto& [section, members] : sections) {
    std::sort(members.begin(), members.end(), [](const auto* a, const auto* b) { return a->offset < b->offset; });
    for (size_t i = 1; i < members.size(); ++i)
      demand(members[i - 1]->offset + members[i - 1]->shape.size() <= members[i]->offset, *members[i],
             str("must not overlap ", members[i - 1]->path));
  }
}

void check_buckets(const Plan& plan) {
  int64_t ranks = 1, end = 0;
  for (const MeshAxis& axis : plan.mesh) ranks *= axis.size;
  for (const PlannedBucket& bucket : plan.buckets) {
    check(bucket.begin == end && bucket.end > bucket.begin && (bucket.end - bucket.begin) % ranks == 0, ErrorCode::plan,
          [&] {
            return str("the plan breaks a rule: a bucket of elements ", bucket.begin, " to ", bucket.end,
                       " must begin at ", end, " and be divisible by ", ranks, " ranks");
          });
    end = bucket.end;
  }
  check(end == plan.arena_elements, ErrorCode::plan, [&] {
    return str("the plan breaks a rule: buckets cover ", end, " of ", plan.arena_elements, " elements of the arena");
  });
}

}  // namespace

void check_plan(const Plan& plan) {
  for (const PlannedVariable& variable : plan.variables) {
    check_variable(plan, variable);
    if (variable.role == Role::slot) check_slot(plan, variable);
  }
  check_overlaps(plan);
  check_buckets(plan);
}

}  // namespace lockstep
