// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "runtime/plan/check/plan_check.h"
#include "runtime/plan/plan_json.h"
#include "runtime/plan/plan_text.h"

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
                    .settings = {.mesh = {{"data", int(ranks)}},
                                 .reduce = ReduceMode::tree,
                                 .virtual_ranks = 8,
                                 .bucket_bytes = bucket_bytes}});
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
              HasSubstr("only f32, bf16 and f16 can be trained"));
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

TEST(PlanCheck, AcceptsThePlannersPlans) {
  for (const int64_t ranks : {1, 2, 3, 5, 8, 64})
    for (const int64_t bucket_bytes : {1, 200, 1 << 20}) {
      Plan plan = plan_for(ranks, small_model(), bucket_bytes);
      EXPECT_EQ(error_of([&] { check_plan(plan); }), "no error") << ranks << " ranks, " << bucket_bytes;
      // It has looked: one wrong number is not accepted.
      ++plan.buckets.front().end;
      EXPECT_NE(error_of([&] { check_plan(plan); }), "no error") << ranks << " ranks, " << bucket_bytes;
    }
}

TEST(Planner, RefusesASlotThatTheModelDeclares) {
  VariableTable variables = small_model();
  variables.declare({"velocity", {3}, DType::f32, Role::slot, {}, {}});
  EXPECT_THAT(error_of([&] { plan_for(2, variables); }),
              testing::AllOf(HasSubstr("variable velocity"), HasSubstr("slots are state of the optimizer")));
}

}  // namespace
}  // namespace lockstep
