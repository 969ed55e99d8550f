// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/planner.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "kernels/device/known_name.h"
#include "runtime/plan/buckets.h"
#include "runtime/plan/check/plan_check.h"
#include "runtime/plan/plan_warnings.h"

namespace lockstep {
namespace {

const RuleSet& rules_of(const PlannerInput& input) { return input.rules ? *input.rules : standard_rules(); }

Section section_of(Role role) {
  switch (role) {
    case Role::parameter:
      return Section::trainable;
    case Role::frozen_parameter:
      return Section::frozen;
    case Role::slot:
      return Section::slot;
    default:
      return Section::local;
  }
}

void check_layout(const PlanSettings& settings, const PlannedVariable& variable) {
  const std::string problem = layout_problem(settings, variable.layout, variable.shape);
  check(problem.empty(), ErrorCode::plan, [&] {
    const LayoutRule* rule = variable.layout_given || variable.layout_rule < 0
                                 ? nullptr
                                 : &settings.layout_rules[size_t(variable.layout_rule)];
    return str("variable ", variable.path, " of shape ", to_string(variable.shape), " cannot have the layout ",
               to_string(variable.layout), variable.layout_given ? ", given by hand" : "",
               rule ? str(", from the layout rule '", rule->pattern, "'",
                          rule->where.empty() ? std::string() : " (" + rule->where + ")")
                    : std::string(),
               ": ", problem, "; change the layout, the mesh ", to_string(settings.mesh), " or the shape");
  });
}

int64_t local_elements(const PlanSettings& settings, const PlannedVariable& variable) {
  int64_t elements = variable.shape.size();
  for (const std::string& axis : variable.layout.axes)
    if (!axis.empty()) elements /= settings.size(axis);
  return elements;
}

class PlanBuilder {
 public:
  PlanBuilder(const PlannerInput& input, const Distribution& distribution)
      : input_(input), distribution_(distribution) {
    plan_.settings = complete(input.settings, distribution);
    plan_.settings.optimizer = input.optimizer.name();
  }

  Plan build() {
    for (const VariableDeclaration& variable : input_.variables.declarations()) add_model_variable(variable);
    check_optimized();
    check_total();
    place_parameters();
    add_slots();
    add_scalars();
    place_others();
    derive_costs(plan_);
    plan_.warnings = plan_warnings(plan_);
    return std::move(plan_);
  }

 private:
  void add_model_variable(const VariableDeclaration& declaration);
  void check_optimized() const;
  void check_total() const;
  void place_parameters();
  void add_slots();
  void add_slot(int32_t parameter, int32_t slot, std::string_view name, DType dtype);
  void add_scalar(std::string_view name, DType dtype, Role role);
  void add_scalars();
  void place_others();
  void decide(PlannedVariable variable, const PlannedVariable* parameter);

  const PlannerInput& input_;
  const Distribution& distribution_;
  Plan plan_;
};

void PlanBuilder::decide(PlannedVariable variable, const PlannedVariable* parameter) {
  apply_rules(rules_of(input_), plan_.settings, parameter, variable);
  check_layout(plan_.settings, variable);
  variable.section = section_of(variable.role);
  variable.local_elements = local_elements(plan_.settings, variable);
  plan_.variables.push_back(std::move(variable));
}

void PlanBuilder::add_model_variable(const VariableDeclaration& declaration) {
  if (const Distribution* own = declaration.distribution.get())
    check(own->mesh == distribution_.mesh && own->batch_axis == distribution_.batch_axis, ErrorCode::plan, [&] {
      return str("variable ", declaration.path, " was declared in a scope with the mesh ", to_string(own->mesh),
                 " (batch axis ", own->batch_axis, "), but the plan is for ", to_string(distribution_.mesh),
                 " (batch axis ", distribution_.batch_axis, "); declare it in a scope of the same mesh, or in none");
    });
  check(declaration.role != Role::slot, ErrorCode::plan, [&] {
    return str("variable ", declaration.path, " of the model has role slot; slots are state of the optimizer, which ",
               "declares its own: use role statistic or frozen_parameter");
  });
  // Rules are asked even where they cannot decide, so that two rules for one path are an error for every variable.
  const int rule = distribution_.layouts.find(declaration.path);
  if (declaration.shape_pending) {
    plan_.pending.push_back(declaration.path);
    return;
  }
  PlannedVariable variable;
  variable.path = declaration.path;
  variable.shape = declaration.shape;
  variable.dtype = declaration.dtype;
  variable.role = declaration.role;
  check(variable.role != Role::parameter || variable.dtype != DType::f16 || !plan_.settings.stochastic_rounding,
        ErrorCode::plan, [&] {
          return str("variable ", variable.path, " is f16, and only bf16 is rounded stochastically; keep f32 masters");
        });
  variable.layout_rule = rule;
  if (declaration.layout) variable.layout = *declaration.layout;
  variable.layout_given = declaration.layout.has_value();
  if (declaration.aggregation) variable.aggregation = *declaration.aggregation;
  variable.aggregation_given = declaration.aggregation.has_value();
  decide(std::move(variable), nullptr);
}

void PlanBuilder::check_optimized() const {
  std::string frozen;
  std::vector<std::string_view> trainable;
  for (const VariableDeclaration& variable : input_.variables.declarations()) {
    if (variable.trainable()) trainable.push_back(variable.path);
    if (variable.role == Role::frozen_parameter) frozen += (frozen.empty() ? "" : ", ") + variable.path;
  }
  check(!trainable.empty(), ErrorCode::plan, [&] {
    return str("nothing to train: the model has no variable of role parameter; ",
               frozen.empty() ? std::string("it has no weights") : "frozen are " + frozen,
               "; declare or unfreeze at least one");
  });
  if (!input_.optimized) return;
  const auto& declared = input_.variables.declarations();
  for (const std::string& path : *input_.optimized) {
    if (std::find(trainable.begin(), trainable.end(), path) != trainable.end()) continue;
    const auto known = std::find_if(declared.begin(), declared.end(), [&](const auto& d) { return d.path == path; });
    if (known == declared.end())
      fail(ErrorCode::plan, str("optimizer ", input_.optimizer.name(), " was given the unknown variable ", path, "; ",
                                did_you_mean(path, trainable)));
    fail(ErrorCode::plan, str("optimizer ", input_.optimizer.name(), " was given ", path, " of role ",
                              to_string(known->role), ", which is not trained; unfreeze it or leave it out"));
  }
  const std::unordered_set<std::string_view> given(input_.optimized->begin(), input_.optimized->end());
  for (const std::string_view path : trainable)
    check(given.contains(path), ErrorCode::plan, [&] {
      return str("variable ", path, " is trainable, but optimizer ", input_.optimizer.name(),
                 " was not given it, so it would be differentiated and never change; freeze it or give it");
    });
}

void PlanBuilder::check_total() const {
  // Byte counts with all slots, and with the gradients of several parts of the batch, then fit 63 bits.
  constexpr int64_t kMost = int64_t(1) << 48;
  int64_t elements = 0;
  for (const PlannedVariable& variable : plan_.variables) {
    elements += variable.shape.size();
    check(elements <= kMost, ErrorCode::plan, [&] {
      return str("the model has more than ", kMost, " elements up to variable ", variable.path, " of shape ",
                 to_string(variable.shape), "; check its shapes");
    });
  }
}

void PlanBuilder::place_parameters() {
  std::vector<BucketItem> items;
  std::vector<int32_t> index;  // indices of items in plan_.variables
  for (size_t i = 0; i < plan_.variables.size(); ++i) {
    const PlannedVariable& variable = plan_.variables[i];
    if (!variable.in_gradient_sync) continue;
    const auto& axes = variable.layout.axes;
    const bool split = std::find(axes.begin(), axes.end(), plan_.settings.batch_axis) != axes.end();
    items.push_back({variable.local_elements, variable.dtype, split});
    index.push_back(int32_t(i));
  }
  BucketLayout layout = fill_buckets(plan_.settings, items);
  for (size_t b = 0; b < layout.buckets.size(); ++b)
    for (int32_t& member : layout.buckets[b].variables) {
      PlannedVariable& variable = plan_.variables[size_t(index[size_t(member)])];
      variable.bucket = int32_t(b);
      variable.offset = layout.offsets[size_t(member)];
      member = index[size_t(member)];
    }
  plan_.buckets = std::move(layout.buckets);
  plan_.arena_elements = layout.arena_elements;
}

void PlanBuilder::add_slot(int32_t parameter, int32_t slot, std::string_view name, DType dtype) {
  const PlannedVariable& of = plan_.variables[size_t(parameter)];
  PlannedVariable variable;
  variable.path = str(of.path, "/", plan_.settings.optimizer, "/", name);
  variable.shape = of.shape;
  variable.dtype = dtype;
  variable.role = Role::slot;
  variable.by_optimizer = true;
  variable.parameter = parameter;
  variable.slot = slot;
  variable.offset = of.offset;
  const PlannedVariable copy = of;  // decide() grows the vector
  decide(std::move(variable), &copy);
}

void PlanBuilder::add_slots() {
  const auto slots = input_.optimizer.slots();
  const auto model_variables = int32_t(plan_.variables.size());
  plan_.slots = int32_t(slots.size());
  for (const PlannedVariable& variable : plan_.variables)
    if (has_master(plan_.settings, variable)) plan_.master_slot = int32_t(slots.size());
  if (plan_.master_slot >= 0) ++plan_.slots;
  for (int32_t i = 0; i < model_variables; ++i) {
    if (plan_.variables[size_t(i)].role != Role::parameter) continue;
    const int32_t group = input_.optimizer.group_of(plan_.variables[size_t(i)].path);
    for (size_t s = 0; s < slots.size(); ++s)
      add_slot(i, int32_t(s), input_.optimizer.slot(group, int32_t(s)).name, slots[s].dtype);
    if (has_master(plan_.settings, plan_.variables[size_t(i)])) add_slot(i, plan_.master_slot, "master", DType::f32);
  }
}

void PlanBuilder::add_scalar(std::string_view name, DType dtype, Role role) {
  PlannedVariable variable;
  variable.path = str(plan_.settings.optimizer, "/", name);
  variable.dtype = dtype;
  variable.role = role;
  variable.by_optimizer = true;
  variable.layout_rule = distribution_.layouts.find(variable.path);
  decide(std::move(variable), nullptr);
}

void PlanBuilder::add_scalars() {
  add_scalar("iteration", DType::i64, Role::counter);
  add_scalar("learning_rate", DType::f64, Role::hyperparameter);
  for (const ScalarState& scalar : input_.optimizer.scalars())
    add_scalar(scalar.name, DType::f64, Role::hyperparameter);
}

void PlanBuilder::place_others() {
  for (PlannedVariable& variable : plan_.variables) {
    if (variable.section == Section::frozen) {
      variable.offset = plan_.frozen_bytes;
      plan_.frozen_bytes = next_frozen_offset(plan_.frozen_bytes, variable.local_bytes());
    } else if (variable.section == Section::local) {
      variable.offset = plan_.local_bytes;
      plan_.local_bytes = next_local_offset(plan_.local_bytes, variable.local_bytes());
    }
  }
}

}  // namespace

Plan make_plan(const PlannerInput& input) {
  const Distribution distribution = distribution_of(input.settings);
  Plan plan = PlanBuilder(input, distribution).build();
  check_plan(plan);
  return plan;
}

void check_runnable(const Plan& plan, DeviceKind device) {
  const auto cannot = [](const std::string& what) {
    fail(ErrorCode::plan, str("this plan can be forecast but not run yet: ", what));
  };
  if (!plan.pending.empty()) cannot("the shape of " + plan.pending[0] + " is not known");
  if (plan.settings.copies != (device == DeviceKind::cpu ? Copies::per_node : Copies::per_rank))
    cannot(device == DeviceKind::cpu ? "CPU ranks share one copy per node"
                                     : "ranks with a GPU each have their own copy");
  if (plan.settings.zero != 0) cannot("training runs without ZeRO");
  for (const PlannedVariable& variable : plan.variables) {
    if (!variable.layout.is_replicated())
      cannot(str("variable ", variable.path, " has the layout ", to_string(variable.layout),
                 "; only replicated variables are trained"));
    if (variable.section != Section::local && variable.dtype != DType::f32 && !is_narrow(variable.dtype))
      cannot(
          str("variable ", variable.path, " has dtype ", to_string(variable.dtype), "; weights are f32, bf16 or f16"));
  }
}

}  // namespace lockstep
