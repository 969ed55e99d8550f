// SPDX-License-Identifier: Apache-2.0
#include "runtime/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "runtime/plan_check.h"
#include "runtime/plan_json.h"
#include "runtime/plan_text.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

VariableTable small_model() {
  VariableTable variables;
  variables.parameter("dense/weight", {5, 3}, Initializer::glorot_uniform(5, 3));
  variables.parameter("dense/bias", {3}, Initializer::constant(0));
  variables.parameter("temperature", {}, Initializer::constant(1));
  variables.declare({"table", {4}, DType::f32, Role::frozen_parameter, Initializer::constant(2), {}});
  return variables;
}

Plan plan_for(int64_t ranks, const VariableTable& variables = small_model(), int64_t bucket_bytes = 4 << 20) {
  const auto adam = make_optimizer("adam");
  return make_plan({.variables = variables,
                    .optimizer = *adam,
                    .ranks = ranks,
                    .reduce = ReduceMode::tree,
                    .virtual_ranks = 8,
                    .bucket_bytes = bucket_bytes});
}

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Planner, KeepsTheIterationCounterReplicatedUnreducedAndOffTheTape) {
  for (const int64_t ranks : {1, 2, 3, 8, 64}) {
    const Plan plan = plan_for(ranks);
    const PlannedVariable& counter = plan.at("adam/iteration");
    EXPECT_EQ(counter.role, Role::counter);
    EXPECT_EQ(counter.dtype, DType::i64);
    EXPECT_EQ(counter.shape, Shape{});
    EXPECT_EQ(counter.layout, Layout{});
    EXPECT_FALSE(counter.on_tape);
    EXPECT_FALSE(counter.in_gradient_sync);
    EXPECT_EQ(counter.bucket, -1);
    EXPECT_EQ(counter.aggregation, Aggregation::only_first_replica);
    EXPECT_EQ(counter.section, Section::local);
  }
}

TEST(Planner, ReducesATrainableScalarLikeAnyWeight) {
  const Plan plan = plan_for(4);
  const PlannedVariable& scalar = plan.at("temperature");
  EXPECT_TRUE(scalar.on_tape);
  EXPECT_TRUE(scalar.in_gradient_sync);
  EXPECT_GE(scalar.bucket, 0);
  EXPECT_TRUE(scalar.layout.axes.empty());
}

TEST(Planner, LeavesFrozenVariablesOutOfTapeBucketsAndSlots) {
  const Plan plan = plan_for(2);
  const PlannedVariable& frozen = plan.at("table");
  EXPECT_FALSE(frozen.on_tape);
  EXPECT_FALSE(frozen.in_gradient_sync);
  EXPECT_EQ(frozen.section, Section::frozen);
  EXPECT_THAT(error_of([&] { plan.at("table/adam/momentum"); }), HasSubstr("no variable is called"));
}

TEST(Planner, TellsScalarsFromVectorsOfOneAndOfNone) {
  VariableTable variables;
  variables.parameter("scalar", {}, {});
  variables.parameter("one", {1}, {});
  variables.parameter("none", {0}, {});
  const Plan plan = plan_for(3, variables);
  EXPECT_EQ(plan.at("scalar").layout.axes.size(), 0u);
  EXPECT_EQ(plan.at("one").layout.axes.size(), 1u);
  EXPECT_EQ(plan.at("none").layout.axes.size(), 1u);
  EXPECT_EQ(plan.at("none").local_bytes(), 0);
}

TEST(Planner, GivesASlotThePlaceOfItsParameter) {
  const Plan plan = plan_for(2);
  for (const char* name : {"momentum", "velocity"}) {
    const PlannedVariable& slot = plan.at(std::string("dense/weight/adam/") + name);
    EXPECT_EQ(slot.role, Role::slot);
    EXPECT_EQ(slot.offset, plan.at("dense/weight").offset);
    EXPECT_EQ(slot.shape, plan.at("dense/weight").shape);
    EXPECT_FALSE(slot.in_gradient_sync);
  }
}

TEST(Planner, FillsBucketsInReverseOrderAndCutsThemAtTheirSize) {
  const Plan plan = plan_for(3, small_model(), 1);  // every variable closes a bucket
  ASSERT_EQ(plan.buckets.size(), 3u);
  EXPECT_EQ(plan.variables[size_t(plan.buckets[0].variables[0])].path, "temperature");
  EXPECT_EQ(plan.variables[size_t(plan.buckets[2].variables[0])].path, "dense/weight");
  for (const PlannedBucket& bucket : plan.buckets) EXPECT_EQ((bucket.end - bucket.begin) % (3 * 32), 0);
}

TEST(Planner, RefusesAModelWithNothingToTrainAndNamesWhatIsFrozen) {
  VariableTable variables;
  variables.declare({"embedding", {4, 2}, DType::f32, Role::frozen_parameter, {}, {}});
  EXPECT_THAT(error_of([&] { plan_for(2, variables); }),
              testing::AllOf(HasSubstr("nothing to train"), HasSubstr("embedding")));
}

TEST(Planner, KeepsALayoutGivenByHandAndRefusesOneThatDoesNotFit) {
  VariableTable variables;
  variables.declare({"kept", {4, 2}, DType::f32, Role::parameter, {}, Layout::replicated(2)});
  EXPECT_EQ(plan_for(2, variables).at("kept").rules[0], "L1");
  variables.declare({"short", {4, 2}, DType::f32, Role::parameter, {}, Layout::replicated(1)});
  EXPECT_THAT(error_of([&] { plan_for(2, variables); }), HasSubstr("layout of 1 dimensions"));
}

TEST(Variables, RefuseATrainableIntegerAndAFloatingCounter) {
  VariableTable variables;
  EXPECT_THAT(error_of([&] {
                variables.declare({"n", {}, DType::i64, Role::parameter, {}, {}});
              }),
              HasSubstr("only f32 and bf16 can be trained"));
  EXPECT_THAT(error_of([&] {
                variables.declare({"t", {}, DType::f32, Role::counter, {}, {}});
              }),
              HasSubstr("counters are i64"));
  variables.parameter("w", {1}, {});
  EXPECT_THAT(error_of([&] { variables.parameter("w", {1}, {}); }), HasSubstr("declared twice"));
  EXPECT_THAT(error_of([&] { variables.freeze("v"); }), HasSubstr("no such variable; it has w"));
}

TEST(Plan, HasEqualHashesForEqualContentOnly) {
  EXPECT_EQ(plan_for(2).hash(), plan_for(2).hash());
  EXPECT_NE(plan_for(2).hash(), plan_for(3).hash());
  Plan changed = plan_for(2);
  changed.variables[0].on_tape = false;
  EXPECT_NE(changed.hash(), plan_for(2).hash());
}

TEST(Plan, ExplainsEveryVariableWithARuleForEveryQuestion) {
  const Plan plan = plan_for(2);
  for (const PlannedVariable& variable : plan.variables) {
    const std::string text = explain(plan, variable.path);
    for (const char* question : {"layout", "tape", "gradient sync", "aggregation", "residence"})
      EXPECT_THAT(text, HasSubstr(question));
    for (const std::string_view rule : variable.rules) EXPECT_THAT(text, HasSubstr(str("rule ", rule, ": ")));
  }
  EXPECT_THAT(explain(plan, "adam/iteration"), HasSubstr("only_first_replica"));
}

TEST(Plan, WritesTheFieldsOthersRelyOn) {
  const auto json = nlohmann::json::parse(plan_to_json(plan_for(2)));
  for (const char* field : {"hash", "mesh", "variables", "buckets", "collectives", "memory", "warnings"})
    EXPECT_TRUE(json.contains(field)) << field;
  for (const char* field : {"path", "role", "shape", "dtype", "layout", "on_tape", "in_gradient_sync", "aggregation",
                            "bytes_per_rank", "reason"})
    EXPECT_TRUE(json["variables"][0].contains(field)) << field;
}

// Each mutant is a plan as a broken planner would have made it; check_plan must refuse every one.
struct Mutant {
  const char* name;
  std::function<void(Plan&)> break_it;
  const char* complaint;
};

PlannedVariable& variable(Plan& plan, std::string_view path) { return const_cast<PlannedVariable&>(plan.at(path)); }

const std::vector<Mutant>& mutants() {
  static const std::vector<Mutant> all = {
      {"the counter requires a gradient", [](Plan& p) { variable(p, "adam/iteration").on_tape = true; },
       "off the tape"},
      {"the counter is in gradient sync", [](Plan& p) { variable(p, "adam/iteration").in_gradient_sync = true; },
       "outside gradient sync"},
      {"the counter is a member of a bucket",
       [](Plan& p) { p.buckets[0].variables.push_back(int32_t(&variable(p, "adam/iteration") - p.variables.data())); },
       "inside its bucket|no bucket"},
      {"the counter has the data axis", [](Plan& p) { variable(p, "adam/iteration").layout = {{"data"}}; },
       "one entry per dimension"},
      {"the counter is aggregated like a slot",
       [](Plan& p) { variable(p, "adam/iteration").aggregation = Aggregation::none; }, "only_first_replica"},
      {"the counter is a float", [](Plan& p) { variable(p, "adam/iteration").dtype = DType::f32; }, "must be i64"},
      {"the counter has shape [1]", [](Plan& p) { variable(p, "adam/iteration").shape = Shape{1}; },
       "must be a scalar"},
      {"the learning rate is on the tape", [](Plan& p) { variable(p, "adam/learning_rate").on_tape = true; },
       "off the tape"},
      {"a trainable scalar is left out of sync", [](Plan& p) { variable(p, "temperature").in_gradient_sync = false; },
       "must be in gradient sync"},
      {"a trainable scalar is left out of its bucket",
       [](Plan& p) {
         for (PlannedBucket& bucket : p.buckets)
           std::erase(bucket.variables, int32_t(&variable(p, "temperature") - p.variables.data()));
       },
       "exactly one bucket"},
      {"a variable is in two buckets' worth of sums", [](Plan& p) { p.buckets[0].variables.push_back(0); },
       "exactly one bucket"},
      {"a frozen variable became trainable", [](Plan& p) { variable(p, "table").on_tape = true; }, "off the tape"},
      {"a slot lies elsewhere than its parameter",
       [](Plan& p) { variable(p, "dense/bias/adam/momentum").offset += 32; }, "of its parameter|overlap"},
      {"two variables overlap", [](Plan& p) { variable(p, "dense/bias").offset = variable(p, "dense/weight").offset; },
       "overlap|of its parameter"},
      {"a weight is sharded without anyone gathering it",
       [](Plan& p) { variable(p, "dense/weight").layout.axes[0] = "data"; }, "replicated on every axis"},
      {"a bucket does not divide by the ranks", [](Plan& p) { p.buckets[0].end -= 1; }, "divisible|inside its bucket"},
      {"the last bucket is missing", [](Plan& p) { p.arena_elements += 64; }, "elements of the arena"},
  };
  return all;
}

TEST(PlanCheck, AcceptsThePlannersPlans) {
  for (const int64_t ranks : {1, 2, 3, 5, 8, 64})
    for (const int64_t bucket_bytes : {1, 200, 1 << 20}) check_plan(plan_for(ranks, small_model(), bucket_bytes));
}

TEST(PlanCheck, KillsEveryMutant) {
  for (const Mutant& mutant : mutants()) {
    Plan plan = plan_for(2);
    mutant.break_it(plan);
    EXPECT_THAT(error_of([&] { check_plan(plan); }), testing::ContainsRegex(mutant.complaint)) << mutant.name;
  }
}

}  // namespace
}  // namespace lockstep
