// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/plan_rules.h"

#include <algorithm>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

std::string role_of(const RuleCase& c) { return str("role ", to_string(c.variable.role)); }

const LayoutRule* matching_rule(const RuleCase& c) {
  return c.variable.layout_rule < 0 ? nullptr : &c.settings.layout_rules[size_t(c.variable.layout_rule)];
}

std::string named(const LayoutRule& rule) {
  return str("'", rule.pattern, "'", rule.where.empty() ? std::string() : " (" + rule.where + ")");
}

bool is_scalar(const RuleCase& c) { return c.variable.shape.rank() == 0; }
bool is_slot(const RuleCase& c) { return c.variable.role == Role::slot; }

std::string shape_of(const RuleCase& c) { return str("shape ", to_string(c.variable.shape)); }

// Layout: rank 0 answers this question and no other.

Rule given_layout() {
  return {.id = "L1",
          .question = Question::layout,
          .answer = "given",
          .applies = [](const RuleCase& c) { return c.variable.layout_given; },
          .decide = [](const RuleCase&, PlannedVariable&) {},
          .reason = [](const RuleCase&) { return std::string("the layout was given by hand and is kept"); },
          .rejection = [](const RuleCase&) { return std::string("no layout was given by hand"); }};
}

Rule scalar_layout() {
  return {.id = "L2",
          .question = Question::layout,
          .answer = "scalar",
          .applies = is_scalar,
          .decide = [](const RuleCase&, PlannedVariable& out) { out.layout = Layout{}; },
          .reason =
              [](const RuleCase& c) {
                const LayoutRule* rule = matching_rule(c);
                return "a scalar has no dimension to split: its layout is explicitly empty" +
                       (rule ? str(", although the rule ", named(*rule), " matches its path") : std::string());
              },
          .rejection =
              [](const RuleCase& c) {
                return str(shape_of(c), " has ", c.variable.shape.rank(), " dimension",
                           c.variable.shape.rank() == 1 ? "" : "s", ", so it is no scalar");
              }};
}

Rule slot_layout() {
  return {.id = "L3",
          .question = Question::layout,
          .answer = "as its parameter",
          .applies = is_slot,
          .decide = [](const RuleCase& c, PlannedVariable& out) { out.layout = c.parameter->layout; },
          .reason = [](const RuleCase& c) { return str("a slot has the layout of its parameter ", c.parameter->path); },
          .rejection = [](const RuleCase& c) { return role_of(c) + ": only a slot follows a parameter"; }};
}

Rule indivisible_layout() {
  const auto problem = [](const RuleCase& c) {
    const LayoutRule* rule = matching_rule(c);
    return rule ? layout_problem(c.settings, rule->layout, c.variable.shape) : std::string();
  };
  return {.id = "L4",
          .question = Question::layout,
          .answer = "replicated instead",
          .applies = [problem](const RuleCase& c) { return c.settings.replicate_indivisible && !problem(c).empty(); },
          .decide = [](const RuleCase& c,
                       PlannedVariable& out) { out.layout = Layout::replicated(c.variable.shape.rank()); },
          .reason =
              [problem](const RuleCase& c) {
                return str("the layout rule ", named(*matching_rule(c)), " does not fit (", problem(c),
                           ") and such variables are to be replicated");
              },
          .rejection = [](const RuleCase&) { return std::string("no layout rule that matches fails to fit"); }};
}

Rule ruled_layout() {
  return {.id = "L5",
          .question = Question::layout,
          .answer = "sharded",
          .applies = [](const RuleCase& c) { return matching_rule(c) != nullptr; },
          .decide = [](const RuleCase& c, PlannedVariable& out) { out.layout = matching_rule(c)->layout; },
          .reason = [](const RuleCase& c) { return str("the layout rule ", named(*matching_rule(c)), " matches"); },
          .rejection =
              [](const RuleCase& c) {
                if (is_scalar(c)) return std::string("a scalar has no dimension that an axis could split");
                if (is_slot(c)) return std::string("layout rules are for parameters; a slot follows its own");
                return str("none of the ", c.settings.layout_rules.size(), " layout rules matches this path");
              }};
}

Rule replicated_layout() {
  return {.id = "L6",
          .question = Question::layout,
          .answer = "replicated",
          .applies = [](const RuleCase&) { return true; },
          .decide = [](const RuleCase& c,
                       PlannedVariable& out) { out.layout = Layout::replicated(c.variable.shape.rank()); },
          .reason =
              [](const RuleCase& c) {
                return str("the batch is split over the axis ", c.settings.batch_axis,
                           " and no rule splits this variable: it is whole on every rank");
              },
          .rejection = [](const RuleCase&) { return std::string("a rule before it lays the variable out"); }};
}

// Tape and gradient sync: the role alone decides, whatever rank and dtype. Declarations refuse a non-float parameter.

Rule tape(bool on) {
  const auto holds = [on](const RuleCase& c) { return (c.variable.role == Role::parameter) == on; };
  return {.id = on ? "T1" : "T2",
          .question = Question::tape,
          .answer = on ? "on-tape" : "off-tape",
          .applies = holds,
          .decide = [on](const RuleCase&, PlannedVariable& out) { out.on_tape = on; },
          .reason =
              [on](const RuleCase& c) {
                return role_of(c) + (on ? ": the loss is differentiated with respect to it"
                                        : ": only role parameter is differentiated");
              },
          .rejection =
              [on](const RuleCase& c) {
                return role_of(c) + (on ? ": a gradient would have no meaning for it" : ": it is trained");
              }};
}

Rule gradient_sync(bool in) {
  return {.id = in ? "G1" : "G2",
          .question = Question::gradient_sync,
          .answer = in ? "synced" : "unsynced",
          .applies = [in](const RuleCase& c) { return (c.variable.role == Role::parameter) == in; },
          .decide = [in](const RuleCase&, PlannedVariable& out) { out.in_gradient_sync = in; },
          .reason =
              [in](const RuleCase& c) {
                if (!in) return role_of(c) + ": without a gradient there is nothing to sum";
                return str("every trainable variable has its gradient summed over the axis ", c.settings.batch_axis,
                           is_scalar(c) ? ", a scalar like any other" : "");
              },
          .rejection =
              [in](const RuleCase& c) {
                return role_of(c) + (in ? ": it has no gradient, and a bucket holds gradients only"
                                        : ": without the sum its replicas would drift apart");
              }};
}

// Aggregation: total over roles.

bool counts_steps_alike(Role role) {
  return role == Role::counter || role == Role::hyperparameter || role == Role::statistic_counter ||
         role == Role::random_state || role == Role::data_cursor;
}
bool chose(const RuleCase& c, Aggregation aggregation) {
  return c.variable.aggregation_given && c.variable.aggregation == aggregation;
}
std::function<void(const RuleCase&, PlannedVariable&)> aggregates(Aggregation aggregation) {
  return [aggregation](const RuleCase&, PlannedVariable& out) { out.aggregation = aggregation; };
}
std::string declared_or(const RuleCase& c, std::string_view otherwise) {
  return c.variable.aggregation_given ? std::string("it was declared so") : role_of(c) + ": " + std::string(otherwise);
}

Rule first_replica() {
  return {.id = "A1",
          .question = Question::aggregation,
          .answer = "only_first_replica",
          .applies =
              [](const RuleCase& c) {
                return counts_steps_alike(c.variable.role) || chose(c, Aggregation::only_first_replica);
              },
          .decide = aggregates(Aggregation::only_first_replica),
          .reason =
              [](const RuleCase& c) {
                return declared_or(c,
                                   "every rank advances it alike; rank 0's value is broadcast at the start and after "
                                   "restoring, later there is no traffic");
              },
          .rejection =
              [](const RuleCase& c) {
                return role_of(c) + ": its replicas are not copies that every rank advances alike";
              }};
}

Rule mean_of_replicas() {
  return {.id = "A2",
          .question = Question::aggregation,
          .answer = "mean",
          .applies = [](const RuleCase& c) { return chose(c, Aggregation::mean); },
          .decide = aggregates(Aggregation::mean),
          .reason = [](const RuleCase& c) { return declared_or(c, "the mean of what ranks have seen"); },
          .rejection =
              [](const RuleCase& c) {
                return is_floating(c.variable.dtype)
                           ? role_of(c) + ": no mean was declared, and one would hide replicas that differ"
                           : str("dtype ", to_string(c.variable.dtype), ": a mean of integers is rounded and drifts");
              }};
}

Rule sum_of_replicas() {
  return {.id = "A3",
          .question = Question::aggregation,
          .answer = "sum",
          .applies =
              [](const RuleCase& c) {
                return chose(c, Aggregation::sum) || (c.variable.role == Role::metric && !c.variable.aggregation_given);
              },
          .decide = aggregates(Aggregation::sum),
          .reason =
              [](const RuleCase& c) {
                return declared_or(c, "each rank counts its own part; the sum is taken when it is read");
              },
          .rejection =
              [](const RuleCase& c) {
                return str(role_of(c), ": its ", c.settings.ranks(),
                           " replicas are copies, and a sum would count each of them");
              }};
}

Rule max_of_replicas() {
  return {
      .id = "A4",
      .question = Question::aggregation,
      .answer = "max",
      .applies = [](const RuleCase& c) { return chose(c, Aggregation::max) || c.variable.role == Role::loss_scale; },
      .decide = aggregates(Aggregation::max),
      .reason =
          [](const RuleCase& c) { return declared_or(c, "what one rank finds holds for all, so all decide alike"); },
      .rejection = [](const RuleCase& c) { return role_of(c) + ": no rank decides about it for the others"; }};
}

Rule no_aggregation() {
  return {
      .id = "A5",
      .question = Question::aggregation,
      .answer = "none",
      .applies = [](const RuleCase& c) { return !is_bookkeeping(c.variable.role); },
      .decide = aggregates(Aggregation::none),
      .reason =
          [](const RuleCase& c) {
            return role_of(c) + ": equal on all ranks by construction, from an equal start by equal updates";
          },
      .rejection = [](const RuleCase& c) { return role_of(c) + ": it is changed outside of the optimizer's update"; }};
}

// Residence: whose memory holds it.

bool splits(const RuleCase& c) {
  const std::vector<std::string>& axes = c.variable.layout.axes;
  if (std::find(axes.begin(), axes.end(), c.settings.batch_axis) != axes.end()) return false;
  return (c.variable.role == Role::slot && c.settings.zero >= 1) ||
         (c.variable.role == Role::parameter && c.settings.zero >= 3);
}
std::function<void(const RuleCase&, PlannedVariable&)> resides(Residence residence) {
  return [residence](const RuleCase&, PlannedVariable& out) { out.residence = residence; };
}

Rule in_each_rank() {
  return {.id = "R1",
          .question = Question::residence,
          .answer = "each_rank",
          .applies = [](const RuleCase& c) { return is_bookkeeping(c.variable.role); },
          .decide = resides(Residence::each_rank),
          .reason =
              [](const RuleCase& c) {
                return role_of(c) + (c.settings.copies == Copies::per_node
                                         ? ": a replica on the host of each rank, read without asking anyone"
                                         : ": a replica on the device of each rank, where kernels read and advance it");
              },
          .rejection = [](const RuleCase& c) { return role_of(c) + ": it belongs to the model's arrays"; }};
}

Rule split_over_batch_axis() {
  return {.id = "R2",
          .question = Question::residence,
          .answer = "split",
          .applies = splits,
          .decide = resides(Residence::split),
          .reason =
              [](const RuleCase& c) {
                return str("ZeRO stage ", c.settings.zero, ": each of the ", c.settings.batch_ranks(),
                           " ranks of the axis ", c.settings.batch_axis, " holds one part");
              },
          .rejection =
              [](const RuleCase& c) {
                if (is_bookkeeping(c.variable.role)) return role_of(c) + ": a part of it would be of no use";
                const std::vector<std::string>& axes = c.variable.layout.axes;
                if (std::find(axes.begin(), axes.end(), c.settings.batch_axis) != axes.end())
                  return str("its layout is split by the axis ", c.settings.batch_axis, " already");
                return str("ZeRO stage ", c.settings.zero, " does not split a ", to_string(c.variable.role));
              }};
}

Rule one_copy_per_node() {
  return {
      .id = "R3",
      .question = Question::residence,
      .answer = "one_per_node",
      .applies = [](const RuleCase& c) { return c.settings.copies == Copies::per_node; },
      .decide = resides(Residence::one_per_node),
      .reason = [](const RuleCase&) { return std::string("ranks of a node share the memory; each updates its slice"); },
      .rejection =
          [](const RuleCase& c) {
            return is_bookkeeping(c.variable.role) ? role_of(c) + ": a shared scalar would have many writers"
                                                   : std::string("ranks have memory of their own");
          }};
}

Rule one_copy_per_rank() {
  return {.id = "R4",
          .question = Question::residence,
          .answer = "one_per_rank",
          .applies = [](const RuleCase&) { return true; },
          .decide = resides(Residence::one_per_rank),
          .reason = [](const RuleCase&) { return std::string("every rank computes with a copy of its own"); },
          .rejection = [](const RuleCase&) { return std::string("a rule before it places the variable"); }};
}

}  // namespace

const RuleSet& standard_rules() {
  static const RuleSet rules = {given_layout(),          scalar_layout(),      slot_layout(),      indivisible_layout(),
                                ruled_layout(),          replicated_layout(),  tape(true),         tape(false),
                                gradient_sync(true),     gradient_sync(false), first_replica(),    mean_of_replicas(),
                                sum_of_replicas(),       max_of_replicas(),    no_aggregation(),   in_each_rank(),
                                split_over_batch_axis(), one_copy_per_node(),  one_copy_per_rank()};
  return rules;
}

std::string layout_problem(const PlanSettings& settings, const Layout& layout, const Shape& shape) {
  if (layout.axes.size() != size_t(shape.rank()))
    return str("a layout of ", layout.axes.size(), " dimensions for a shape of ", shape.rank());
  for (int i = 0; i < shape.rank(); ++i) {
    const std::string& name = layout.axes[size_t(i)];
    if (name.empty()) continue;
    const auto axis = std::find_if(settings.mesh.begin(), settings.mesh.end(),
                                   [&](const MeshAxis& each) { return each.name == name; });
    if (axis == settings.mesh.end()) return str("the mesh ", to_string(settings.mesh), " has no axis '", name, "'");
    if (std::find(layout.axes.begin(), layout.axes.begin() + i, name) != layout.axes.begin() + i)
      return str("the axis '", name, "' splits two dimensions");
    if (shape[i] % axis->size != 0)
      return str("dimension ", i, " of size ", shape[i], " is not divisible by ", name, "=", axis->size);
  }
  return "";
}

void apply_rules(const RuleSet& rules, const PlanSettings& settings, const PlannedVariable* parameter,
                 PlannedVariable& variable) {
  for (int q = 0; q < kQuestions; ++q) {
    const RuleCase rule_case{settings, variable, parameter};
    const auto rule = std::find_if(rules.begin(), rules.end(), [&](const Rule& each) {
      return each.question == Question(q) && each.applies(rule_case);
    });
    check(rule != rules.end(), ErrorCode::plan, [&] {
      return str("no rule answers the question of ", to_string(Question(q)), " for variable ", variable.path, " (role ",
                 to_string(variable.role), ", ", to_string(variable.dtype), " ", to_string(variable.shape), ")");
    });
    rule->decide(rule_case, variable);
    variable.rules[size_t(q)] = rule->id;
  }
}

}  // namespace lockstep
