// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/plan/mutants.h"

#include <algorithm>

#include "runtime/plan/check/plan_check.h"
#include "tests/runtime/plan/brute_force.h"
#include "tests/runtime/plan/mutant_tables.h"

namespace lockstep {
namespace {

VariableTable declare_model(Machine machine) {
  VariableTable variables;
  const auto add = [&](std::string path, const Shape& shape, DType dtype, Role role,
                       std::optional<Aggregation> aggregation = std::nullopt) {
    variables.declare({std::move(path), shape, dtype, role, Initializer::constant(0), {}, aggregation});
  };
  variables.parameter("dense/kernel", {6, 8}, Initializer::constant(0));
  variables.parameter("dense/bias", {8}, Initializer::constant(0));
  variables.parameter("temperature", {}, Initializer::constant(1));
  variables.parameter("one", {1}, Initializer::constant(1));
  variables.parameter("none", {0}, Initializer::constant(1));
  add("half", {40}, DType::bf16, Role::parameter);
  add("embedding", {8, 4}, DType::f32, Role::parameter);
  add("table", {4}, DType::f32, Role::frozen_parameter);
  add("index", {5}, DType::i32, Role::frozen_parameter);
  add("norm/mean", {8}, DType::f32, Role::statistic, Aggregation::mean);
  add("norm/batches", {}, DType::i64, Role::statistic_counter);
  add("right", {}, DType::f64, Role::metric);
  add("seen", {}, DType::i64, Role::metric, Aggregation::sum);
  add("scale", {}, DType::f32, Role::loss_scale);
  add("random", {2}, DType::i64, Role::random_state);
  add("cursor", {}, DType::i64, Role::data_cursor);
  if (machine == Machine::sharded) {
    variables.declare({"by_hand", {8, 2}, DType::f32, Role::parameter, {}, Layout{{"model", ""}}});
    variables.declare({"scalar_by_hand", {}, DType::f32, Role::parameter, {}, Layout{}});
  }
  return variables;
}

Distribution distribute(Machine machine) {
  if (machine != Machine::sharded && machine != Machine::indivisible) return data_parallel({{"data", 4}});
  LayoutMap layouts;
  layouts.add("dense/.*", {{"model"}}, "rules.toml:1");
  layouts.add("dense/kernel", {{"", "model"}}, "rules.toml:2");
  layouts.add("embedding", {{"data", ""}}, "rules.toml:3");
  layouts.add("temperature", {{"model"}}, "rules.toml:4");
  layouts.add("nadam/.*", {{"data"}}, "rules.toml:5");
  layouts.add("nobody", {{"data"}}, "rules.toml:6");
  if (machine == Machine::indivisible) layouts.add("table", {{"three"}}, "rules.toml:7");
  return machine == Machine::indivisible ? model_parallel({{"data", 2}, {"model", 2}, {"three", 3}}, layouts)
                                         : model_parallel({{"data", 2}, {"model", 2}, {"lone", 1}}, layouts);
}

}  // namespace

Subject::Subject(Machine machine)
    : machine_(machine), variables_(declare_model(machine)), optimizer_(make_optimizer("nadam")) {}

PlannerInput Subject::input(const RuleSet* rules) const {
  const bool cpu = machine_ == Machine::cpu_ranks;
  const Distribution distribution = distribute(machine_);
  PlannerInput input{.variables = variables_,
                     .optimizer = *optimizer_,
                     .settings = {.mesh = distribution.mesh,
                                  .batch_axis = distribution.batch_axis,
                                  .layout_rules = distribution.layouts.rules(),
                                  .reduce = ReduceMode::tree,
                                  .virtual_ranks = 8,
                                  .accumulation = cpu ? 1 : 3,
                                  .bucket_bytes = 600,
                                  .copies = cpu ? Copies::per_node : Copies::per_rank,
                                  .ranks_per_node = cpu ? 2 : 0},
                     .rules = rules};
  if (machine_ == Machine::zero_1 || machine_ == Machine::sharded) input.settings.zero = 1;
  if (machine_ == Machine::narrow) input.settings.reduce_dtype = DType::bf16;
  if (machine_ == Machine::zero_2) input.settings.zero = 2;
  if (machine_ == Machine::zero_3) input.settings.zero = 3;
  if (machine_ == Machine::sharded) input.settings.workload = {.batch = 12, .model_parallel_bytes_per_sample = 64};
  return input;
}

std::string killer_of(const Mutant& mutant) {
  const Subject subject(mutant.machine);
  RuleSet rules = standard_rules();
  if (mutant.break_rules) mutant.break_rules(rules);
  const auto words = [](const Error& error) {
    const std::string what = error.what(), mark = "the plan breaks a rule: ";
    return what.starts_with(mark) ? "check_plan: " + what.substr(mark.size()) : "planner: " + what;
  };
  try {
    Plan plan = make_plan(subject.input(&rules));
    if (mutant.break_plan) mutant.break_plan(plan);
    check_plan(plan);
    const std::string violation = brute_force(subject.input(), plan);
    return violation.empty() ? "" : "brute force: " + violation;
  } catch (const Error& error) {
    return words(error);
  }
}

Rule& rule(RuleSet& rules, std::string_view id) {
  return *std::find_if(rules.begin(), rules.end(), [&](const Rule& each) { return each.id == id; });
}

void steals(RuleSet& rules, std::string_view id, const Condition& condition) {
  Rule stolen = rule(rules, id);
  stolen.applies = [before = stolen.applies, condition](const RuleCase& c) { return condition(c) || before(c); };
  removes(rules, id);
  rules.insert(rules.begin(), std::move(stolen));
}

void keeps_only(RuleSet& rules, std::string_view id, const Condition& condition) {
  Rule& kept = rule(rules, id);
  kept.applies = [before = kept.applies, condition](const RuleCase& c) { return before(c) && condition(c); };
}

void removes(RuleSet& rules, std::string_view id) {
  std::erase_if(rules, [&](const Rule& each) { return each.id == id; });
}

Condition has_role(Role role) {
  return [role](const RuleCase& c) { return c.variable.role == role; };
}

PlannedVariable& variable(Plan& plan, std::string_view path) { return const_cast<PlannedVariable&>(plan.at(path)); }

int32_t index_of(Plan& plan, std::string_view path) { return int32_t(&plan.at(path) - plan.variables.data()); }

PlannedCollective& collective(Plan& plan, std::string_view what) {
  const auto found = std::find_if(plan.collectives.begin(), plan.collectives.end(), [&](const PlannedCollective& each) {
    return each.what.find(what) != std::string::npos;
  });
  check(found != plan.collectives.end(), ErrorCode::internal, [&] { return str("no collective for '", what, "'"); });
  return *found;
}

void erase_collective(Plan& plan, std::string_view what) {
  plan.collectives.erase(plan.collectives.begin() + (&collective(plan, what) - plan.collectives.data()));
}

std::vector<Mutant> all_mutants() {
  std::vector<Mutant> all;
  for (const auto& table :
       {five_tempting_fixes(), aggregation_mutants(), tape_mutants(), layout_mutants(), residence_mutants(),
        state_mutants(), bucket_mutants(), place_mutants(), collective_mutants(), memory_mutants()})
    all.insert(all.end(), table.begin(), table.end());
  return all;
}

}  // namespace lockstep
