// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/plan_warnings.h"

#include <algorithm>

#include "kernels/device/check.h"
#include "runtime/plan/plan_rules.h"

namespace lockstep {
namespace {

constexpr double kGiantShare = 0.02;   // share of all parameter bytes
constexpr double kPaddingShare = 0.1;  // share of the arena

std::string name_of(const LayoutRule& rule) {
  return str("'", rule.pattern, "'", rule.where.empty() ? std::string() : " (" + rule.where + ")");
}

void warn_rules(const Plan& plan, std::vector<std::string>& warnings) {
  const auto& rules = plan.settings.layout_rules;
  std::vector<int64_t> matches(rules.size()), used(rules.size());
  for (const PlannedVariable& variable : plan.variables) {
    if (variable.layout_rule < 0) continue;
    const auto rule = size_t(variable.layout_rule);
    ++matches[rule];
    if (variable.shape.rank() == 0) continue;
    ++used[rule];
    if (!plan.settings.replicate_indivisible || variable.layout_given) continue;
    const std::string problem = layout_problem(plan.settings, rules[rule].layout, variable.shape);
    if (!problem.empty())
      warnings.push_back(str("variable ", variable.path, " of shape ", to_string(variable.shape),
                             " is replicated because the layout rule ", name_of(rules[rule]),
                             " does not fit: ", problem));
  }
  for (size_t i = 0; i < rules.size(); ++i) {
    if (matches[i] == 0)
      warnings.push_back(
          str("the layout rule ", name_of(rules[i]), " matched no variable: patterns match whole paths"));
    else if (used[i] == 0)
      warnings.push_back(
          str("the layout rule ", name_of(rules[i]), " matched nothing but scalars, which are always replicated"));
  }
}

void warn_axes(const Plan& plan, std::vector<std::string>& warnings) {
  for (const MeshAxis& axis : plan.settings.mesh) {
    if (axis.size == 1 || axis.name == plan.settings.batch_axis) continue;
    const bool used = std::any_of(plan.variables.begin(), plan.variables.end(), [&](const PlannedVariable& v) {
      return std::find(v.layout.axes.begin(), v.layout.axes.end(), axis.name) != v.layout.axes.end();
    });
    if (!used)
      warnings.push_back(str("the axis ", axis.name, " splits neither the batch (", plan.settings.batch_axis,
                             " does) nor a variable: its ", axis.size, " ranks repeat each other's work"));
  }
}

void warn_giants(const Plan& plan, std::vector<std::string>& warnings) {
  const bool could_split = std::any_of(plan.settings.mesh.begin(), plan.settings.mesh.end(), [&](const MeshAxis& axis) {
    return axis.size > 1 && axis.name != plan.settings.batch_axis;
  });
  if (!could_split) return;
  int64_t all = 0;
  const auto bytes = [](const PlannedVariable& v) { return v.shape.size() * size_of(v.dtype); };
  const auto is_weight = [](const PlannedVariable& v) {
    return v.role == Role::parameter || v.role == Role::frozen_parameter;
  };
  for (const PlannedVariable& variable : plan.variables)
    if (is_weight(variable)) all += bytes(variable);
  for (const PlannedVariable& variable : plan.variables)
    if (is_weight(variable) && variable.shape.rank() > 1 && variable.layout.is_replicated() &&
        double(bytes(variable)) > kGiantShare * double(all))
      warnings.push_back(str("variable ", variable.path, " of ", bytes(variable), " B, ",
                             bytes(variable) * 100 / std::max<int64_t>(1, all),
                             " % of all weights, is replicated on every rank of ", to_string(plan.settings.mesh),
                             "; a layout rule could split it"));
}

void warn_padding(const Plan& plan, std::vector<std::string>& warnings) {
  int64_t used = 0;
  for (const PlannedVariable& variable : plan.variables)
    if (variable.section == Section::trainable) used += variable.local_elements;
  const int64_t padding = plan.arena_elements - used;
  if (padding * size_of(DType::f32) > (1 << 20) && double(padding) > kPaddingShare * double(plan.arena_elements))
    warnings.push_back(str(
        "padding takes ", padding * 100 / plan.arena_elements, " % of the gradient arena: ", plan.buckets.size(),
        " buckets are each padded to a multiple of ", plan.settings.batch_ranks(), " ranks; larger buckets have less"));
}

}  // namespace

std::vector<std::string> plan_warnings(const Plan& plan) {
  std::vector<std::string> warnings;
  warn_rules(plan, warnings);
  warn_axes(plan, warnings);
  warn_giants(plan, warnings);
  warn_padding(plan, warnings);
  for (const std::string& path : plan.pending)
    warnings.push_back(str("the shape of variable ", path, " is not known yet: it is planned when it is"));
  return warnings;
}

}  // namespace lockstep
