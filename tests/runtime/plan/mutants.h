// SPDX-License-Identifier: Apache-2.0
// Broken planners: a mutant is the planner with one rule broken, or a finished plan changed as a broken planner would
// have left it. Whoever notices first has killed it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/plan/planner.h"

namespace lockstep {

// What mutants plan: one model with a variable of every kind, on several machines.
enum class Machine {
  cpu_ranks,  // four ranks on two nodes, without ZeRO
  zero_1,     // four ranks with memory of their own, three micro-batches
  zero_2,
  zero_3,
  sharded,      // two by two, layouts by rule and by hand, one of them on the batch axis
  narrow,       // four ranks with memory of their own, without ZeRO, that sum gradients in bf16
  indivisible,  // a rule that does not fit: the planner must refuse
};
inline constexpr int kMachines = 7;

// The input of the planner for a machine, with what it refers to.
class Subject {
 public:
  explicit Subject(Machine machine);
  PlannerInput input(const RuleSet* rules = nullptr) const;

 private:
  Machine machine_;
  VariableTable variables_;
  std::unique_ptr<Optimizer> optimizer_;
};

struct Mutant {
  std::string name;
  Machine machine;
  std::function<void(RuleSet&)> break_rules;  // or null
  std::function<void(Plan&)> break_plan;      // or null
  std::string notices;                        // part of the killer's words
};

// What notices the mutant: "planner: ...", "check_plan: ..." or "brute force: ..."; "" when it survives.
std::string killer_of(const Mutant& mutant);

// Breaking rules.
using Condition = std::function<bool(const RuleCase&)>;
Rule& rule(RuleSet& rules, std::string_view id);
// The rule applies to these variables too, before all others.
void steals(RuleSet& rules, std::string_view id, const Condition& condition);
// The rule applies no longer but where the condition holds.
void keeps_only(RuleSet& rules, std::string_view id, const Condition& condition);
void removes(RuleSet& rules, std::string_view id);
Condition has_role(Role role);

// Breaking plans.
PlannedVariable& variable(Plan& plan, std::string_view path);
int32_t index_of(Plan& plan, std::string_view path);
// The first collective whose purpose contains this text.
PlannedCollective& collective(Plan& plan, std::string_view what);
void erase_collective(Plan& plan, std::string_view what);

}  // namespace lockstep
