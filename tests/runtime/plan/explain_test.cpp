// SPDX-License-Identifier: Apache-2.0
// Explanations come from the rules that decided: every variable has one for every question, and without a rule the
// text is another one or there is no plan.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "runtime/models/model_list.h"
#include "runtime/plan/plan_text.h"
#include "tests/runtime/plan/mutants.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

// The rule that decided, or null where there is no such rule for the question.
const Rule* decider(const PlannedVariable& v, Question question) {
  for (const Rule& rule : standard_rules())
    if (rule.id == v.rules[size_t(question)] && rule.question == question) return &rule;
  return nullptr;
}

TEST(Explain, HasARuleForEveryQuestionAboutEveryVariableOfTheShippedModels) {
  int variables = 0;
  for (const std::string_view model_name : {"mlp", "cnn", "gpt-nano"})
    for (const std::string_view optimizer_name : optimizer_names()) {
      const Model model = make_model(model_name, {});
      const auto optimizer = make_optimizer(optimizer_name);
      const Plan plan =
          make_plan({.variables = model.variables, .optimizer = *optimizer, .settings = {.mesh = {{"data", 8}}}});
      for (const PlannedVariable& v : plan.variables) {
        const std::string text = explain(plan, v.path);
        for (int q = 0; q < kQuestions; ++q) {
          const Rule* rule = decider(v, Question(q));
          ASSERT_NE(rule, nullptr) << v.path << ": '" << v.rules[size_t(q)] << "'";
          const RuleCase rule_case{plan.settings, v, v.parameter < 0 ? nullptr : &plan.variables[size_t(v.parameter)]};
          EXPECT_THAT(text, HasSubstr(str("rule ", rule->id, ": ", rule->reason(rule_case), "\n")));
        }
        ++variables;
      }
    }
  EXPECT_GT(variables, 200);
}

// The answer to one question about a variable, as explain shows it: the line of the rule that fired.
std::string answer(const std::string& text, Question question) {
  const size_t begin = text.find("\n  " + std::string(to_string(question)));
  return text.substr(begin + 1, text.find('\n', begin + 1) - begin - 1);
}

// Plans in which, together, every rule decides about some variable.
PlannerInput input(const Subject& subject, bool replicates, const RuleSet* rules = nullptr) {
  PlannerInput input = subject.input(rules);
  input.settings.replicate_indivisible = replicates;
  return input;
}

struct Decision {
  Machine machine;
  std::string path;
  Question question;
};

// What a rule decides in the real plans, by path.
std::vector<Decision> decisions(std::string_view id) {
  std::vector<Decision> found;
  for (int machine = 0; machine < kMachines; ++machine) {
    const Subject subject{Machine(machine)};
    const Plan plan = make_plan(input(subject, Machine(machine) == Machine::indivisible));
    for (const PlannedVariable& v : plan.variables)
      for (int q = 0; q < kQuestions; ++q)
        if (v.rules[size_t(q)] == id) found.push_back({Machine(machine), v.path, Question(q)});
  }
  return found;
}

// Whether without the rule nothing is planned, or the answer to the question is explained in other words.
bool is_missed(std::string_view id, const Decision& decision) {
  const Subject subject(decision.machine);
  const bool replicates = decision.machine == Machine::indivisible;
  const std::string before = answer(explain(make_plan(input(subject, replicates)), decision.path), decision.question);
  RuleSet rules = standard_rules();
  removes(rules, id);
  try {
    const Plan plan = make_plan(input(subject, replicates, &rules));
    return answer(explain(plan, decision.path, rules), decision.question) != before;
  } catch (const Error&) {
    return true;
  }
}

TEST(Explain, ChangesWhenTheRuleThatDecidedIsDisabled) {
  for (const Rule& rule : standard_rules()) {
    const std::vector<Decision> decided = decisions(rule.id);
    EXPECT_FALSE(decided.empty()) << "no variable is decided by rule " << rule.id;
    for (const Decision& decision : decided)
      EXPECT_TRUE(is_missed(rule.id, decision)) << rule.id << " about " << decision.path;
  }
}

TEST(Explain, SaysOfEveryAnswerWhyItWasTakenOrNot) {
  const Subject subject(Machine::sharded);
  const Plan plan = make_plan(subject.input());
  for (const PlannedVariable& v : plan.variables)
    for (const Rule& rule : standard_rules()) {
      const std::string text = explain_why_not(plan, v.path, rule.id);
      EXPECT_THAT(text, testing::StartsWith(v.path + ": " + std::string(to_string(rule.question)) + " is "));
      const bool taken = v.rules[size_t(rule.question)] == rule.id;
      EXPECT_EQ(text.find(" is not ") == std::string::npos, taken) << text;
    }
}

}  // namespace
}  // namespace lockstep
