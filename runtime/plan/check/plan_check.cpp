// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/check/plan_check.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "runtime/plan/check/plan_check_costs.h"

namespace lockstep {
namespace {

bool is_number_for_all(Role role) {
  return role == Role::counter || role == Role::hyperparameter || role == Role::loss_scale;
}

bool right_aggregation(const PlannedVariable& v) {
  const Aggregation a = v.aggregation;
  switch (v.role) {
    case Role::parameter:
    case Role::frozen_parameter:
    case Role::slot:
      return a == Aggregation::none;
    case Role::counter:
    case Role::hyperparameter:
    case Role::statistic_counter:
    case Role::random_state:
    case Role::data_cursor:
      return a == Aggregation::only_first_replica;
    case Role::loss_scale:
      return a == Aggregation::max;
    case Role::statistic:
      return a == Aggregation::only_first_replica || a == Aggregation::mean;
    case Role::metric:
      return a == Aggregation::sum || a == Aggregation::max || (a == Aggregation::mean && is_floating(v.dtype));
  }
  return false;
}

bool right_dtype(const PlannedVariable& v) {
  switch (v.role) {
    case Role::parameter:
      return v.dtype == DType::f32 || is_narrow(v.dtype);
    case Role::counter:
    case Role::statistic_counter:
    case Role::random_state:
    case Role::data_cursor:
      return v.dtype == DType::i64;
    case Role::slot:
      return v.dtype == DType::f32;
    case Role::hyperparameter:
      return v.dtype == DType::f64;
    case Role::loss_scale:
    case Role::statistic:
      return is_floating(v.dtype);
    default:
      return true;
  }
}

Section right_section(Role role) {
  if (role == Role::parameter) return Section::trainable;
  if (role == Role::frozen_parameter) return Section::frozen;
  return role == Role::slot ? Section::slot : Section::local;
}

bool splits_by_batch(const Plan& plan, const PlannedVariable& v) {
  return std::find(v.layout.axes.begin(), v.layout.axes.end(), plan.settings.batch_axis) != v.layout.axes.end();
}

Residence right_residence(const Plan& plan, const PlannedVariable& v) {
  if (is_bookkeeping(v.role)) return Residence::each_rank;
  const int splits_from = v.role == Role::slot ? 1 : v.role == Role::parameter ? 3 : 4;
  if (plan.settings.zero >= splits_from && !splits_by_batch(plan, v)) return Residence::split;
  return plan.settings.copies == Copies::per_node ? Residence::one_per_node : Residence::one_per_rank;
}

void check_layout(const Plan& plan, const PlannedVariable& v) {
  demand(v.layout.axes.size() == size_t(v.shape.rank()), v, "must have a layout with one entry per dimension");
  int64_t elements = v.shape.size();
  for (int i = 0; i < v.shape.rank(); ++i) {
    const std::string& name = v.layout.axes[size_t(i)];
    if (name.empty()) continue;
    const auto& mesh = plan.settings.mesh;
    const auto axis = std::find_if(mesh.begin(), mesh.end(), [&](const MeshAxis& each) { return each.name == name; });
    demand(axis != mesh.end(), v, str("must have axes of the mesh in its layout, not '", name, "'"));
    demand(std::count(v.layout.axes.begin(), v.layout.axes.end(), name) == 1, v,
           str("must not be split twice by the axis ", name));
    demand(v.shape[i] % axis->size == 0, v, str("must have a dimension ", i, " that ", name, " divides"));
    elements /= axis->size;
  }
  demand(v.local_elements == elements, v, str("must have ", elements, " elements in a rank, not ", v.local_elements));
}

void check_variable(const Plan& plan, const PlannedVariable& v, int memberships) {
  demand(size_t(v.role) < size_t(kRoles), [&] { return v.path + " has no role"; });
  const bool trainable = v.role == Role::parameter;
  demand(right_dtype(v), v, v.role == Role::counter ? "must be i64 to stay exact" : "must have a dtype of its role");
  demand(!is_number_for_all(v.role) || v.shape.rank() == 0, v, "must be a scalar");
  check_layout(plan, v);
  demand(v.on_tape == trainable, v, trainable ? "must be on the tape" : "must be off the tape");
  demand(v.in_gradient_sync == trainable, v, trainable ? "must be in gradient sync" : "must be outside gradient sync");
  demand(right_aggregation(v), v,
         str("must not have aggregation ", to_string(v.aggregation),
             v.role == Role::counter ? ": only_first_replica counts once, a sum or a mean counts ranks" : ""));
  demand(v.section == right_section(v.role), v, "must lie in the section of its role");
  demand(v.residence == right_residence(plan, v), v,
         str("must have residence ", to_string(right_residence(plan, v)), ", not ", to_string(v.residence)));
  demand(memberships == (trainable ? 1 : 0), v, trainable ? "must be in exactly one bucket" : "must be in no bucket");
  demand(trainable == (v.bucket >= 0), v, trainable ? "must name its bucket" : "must name no bucket");
  for (const std::string_view rule : v.rules) demand(!rule.empty(), v, "must have a rule for every decision");
}

std::vector<int> check_members(const Plan& plan) {
  std::vector<int> memberships(plan.variables.size());
  for (size_t b = 0; b < plan.buckets.size(); ++b) {
    const PlannedBucket& bucket = plan.buckets[b];
    int64_t free = bucket.begin;
    for (const int32_t member : bucket.variables) {
      demand(member >= 0 && size_t(member) < plan.variables.size(), [&] {
        return str("bucket ", b, " has the member ", member, " of ", plan.variables.size(), " variables");
      });
      const PlannedVariable& v = plan.variables[size_t(member)];
      ++memberships[size_t(member)];
      demand(v.role == Role::parameter, v, "must be in no bucket");
      demand(v.bucket == int32_t(b), v, str("must name bucket ", b, ", which it is a member of"));
      demand(v.offset >= bucket.begin && v.offset <= bucket.end && v.local_elements <= bucket.end - v.offset, v,
             "must lie inside its bucket");
      demand(v.offset >= free, v, "must lie behind the members of its bucket before it");
      free = v.offset + v.local_elements;
      demand(v.dtype == bucket.dtype && splits_by_batch(plan, v) == bucket.split_by_batch, v,
             "must have the dtype and the kind of split of its bucket");
    }
  }
  return memberships;
}

void check_slots(const Plan& plan) {
  std::map<int32_t, std::vector<bool>> found;  // by parameter: the slots that exist
  for (const PlannedVariable& v : plan.variables) {
    demand((v.role == Role::slot) == (v.parameter >= 0), v, "must name a parameter if and only if it is a slot");
    if (v.role != Role::slot) continue;
    demand(size_t(v.parameter) < plan.variables.size() && plan.variables[size_t(v.parameter)].role == Role::parameter,
           v, "must belong to a trainable parameter");
    demand(v.slot >= 0 && v.slot < plan.slots, v, str("must be one of the optimizer's ", plan.slots, " slots"));
    const PlannedVariable& parameter = plan.variables[size_t(v.parameter)];
    demand(v.offset == parameter.offset && v.shape == parameter.shape && v.layout == parameter.layout, v,
           "must have the place, shape and layout of its parameter");
    std::vector<bool>& slots = found.try_emplace(v.parameter, size_t(plan.slots)).first->second;
    demand(!slots[size_t(v.slot)], v, "must be the only one of its kind for its parameter");
    slots[size_t(v.slot)] = true;
  }
  for (size_t i = 0; i < plan.variables.size(); ++i) {
    if (plan.variables[i].role != Role::parameter) continue;
    demand(plan.master_slot >= 0 || !has_master(plan.settings, plan.variables[i]), plan.variables[i],
           "must have a master");
    for (int32_t s = 0; s < plan.slots; ++s) {
      const auto slots = found.find(int32_t(i));
      if (s == plan.master_slot && !has_master(plan.settings, plan.variables[i])) {
        demand(slots == found.end() || !slots->second[size_t(s)], plan.variables[i], "must have no master");
        continue;
      }
      demand(slots != found.end() && slots->second[size_t(s)], plan.variables[i], str("must have slot ", s));
    }
  }
}

// The unit is the section's: elements in an arena, bytes elsewhere.
int64_t extent(const PlannedVariable& v) {
  return v.section == Section::trainable || v.section == Section::slot ? v.local_elements : v.local_bytes();
}

void check_overlaps(const Plan& plan) {
  std::vector<const PlannedVariable*> members;
  for (const PlannedVariable& v : plan.variables) {
    const int64_t end = v.section == Section::frozen  ? plan.frozen_bytes
                        : v.section == Section::local ? plan.local_bytes
                                                      : plan.arena_elements;
    demand(v.offset >= 0 && v.local_elements >= 0 && extent(v) <= end && v.offset <= end - extent(v), v,
           "must lie inside its section");
    const bool in_bytes = v.section == Section::frozen || v.section == Section::local;
    demand(!in_bytes || v.offset % 8 == 0, v, "must be aligned");
    if (extent(v) > 0) members.push_back(&v);
  }
  const auto place = [](const PlannedVariable* v) { return std::tuple(v->section, v->slot, v->offset); };
  std::sort(members.begin(), members.end(), [&](const auto* a, const auto* b) { return place(a) < place(b); });
  for (size_t i = 1; i < members.size(); ++i) {
    const PlannedVariable &before = *members[i - 1], &v = *members[i];
    if (before.section != v.section || before.slot != v.slot) continue;
    demand(before.offset + extent(before) <= v.offset, v, str("must not overlap ", before.path));
  }
}

void check_buckets(const Plan& plan) {
  int64_t end = 0;
  for (const PlannedBucket& bucket : plan.buckets) {
    const int64_t parts = bucket.split_by_batch ? 1 : plan.settings.batch_ranks();
    demand(bucket.begin == end && bucket.end >= bucket.begin && (bucket.end - bucket.begin) % parts == 0, [&] {
      return str("a bucket of elements ", bucket.begin, " to ", bucket.end, " must begin at ", end,
                 " and be divisible by ", parts, " ranks");
    });
    end = bucket.end;
  }
  demand(end == plan.arena_elements,
         [&] { return str("buckets cover ", end, " of ", plan.arena_elements, " elements of the arena"); });
}

void check_settings(const Plan& plan) {
  const PlanSettings& s = plan.settings;
  demand(s.zero >= 0 && s.zero <= 3 && (s.zero == 0 || s.copies == Copies::per_rank),
         [&] { return str("ZeRO stage ", s.zero, " with copies ", to_string(s.copies)); });
  demand(s.reduce_dtype == DType::f32 || (s.reduce_dtype == DType::bf16 && s.reduce != ReduceMode::mpi), [&] {
    return str("gradients are reduced by '", to_string(s.reduce), "' in ", to_string(s.reduce_dtype),
               ", which can be f32, or bf16 where MPI does not add");
  });
  demand(s.accumulation >= 1 && s.virtual_ranks >= 1 && s.ranks_per_node >= 0 && plan.slots >= 0,
         [] { return std::string("its settings have counts below their least"); });
}

}  // namespace

void check_plan(const Plan& plan) {
  check_settings(plan);
  const std::vector<int> memberships = check_members(plan);
  std::unordered_set<std::string_view> paths;
  int counters = 0, learning_rates = 0;
  bool trains = false;
  for (size_t i = 0; i < plan.variables.size(); ++i) {
    const PlannedVariable& v = plan.variables[i];
    check_variable(plan, v, memberships[i]);
    demand(paths.insert(v.path).second, v, "must be the only variable of this path");
    counters += v.role == Role::counter && v.by_optimizer;
    learning_rates += v.by_optimizer && v.path == plan.settings.optimizer + "/learning_rate";
    trains |= v.role == Role::parameter;
  }
  demand(trains, [] { return std::string("it has no variable of role parameter, so nothing is trained"); });
  demand(counters == 1, [&] { return str("the optimizer has ", counters, " counters, not one"); });
  demand(learning_rates == 1, [&] { return str("the optimizer has ", learning_rates, " learning rates, not one"); });
  check_slots(plan);
  check_overlaps(plan);
  check_buckets(plan);
  check_collectives(plan);
  check_classes(plan);
}

}  // namespace lockstep
