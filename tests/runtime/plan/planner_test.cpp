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

TEST(Planner, RunsNoPlanWhoseSlotsAreSplit) {
  const VariableTable variables = small_model();
  const auto adam = make_optimizer("adam");
  const auto refusal = [&](int zero) {
    const Plan plan = make_plan({.variables = variables,
                                 .optimizer = *adam,
                                 .settings = {.mesh = {{"data", 2}}, .zero = zero, .copies = Copies::per_rank}});
    return error_of([&] { check_runnable(plan, DeviceKind::cuda); });
  };
  EXPECT_EQ(refusal(0), "no error");
  for (const int zero : {1, 2, 3}) EXPECT_THAT(refusal(zero), HasSubstr("training runs without ZeRO")) << zero;
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

// Ranks compare the hash, so what it leaves out may differ between them unseen.
// (tests/runtime/plan/plan_settings_test.cpp has the settings.)
TEST(Plan, HashesEveryFieldOfItsContent) {
  const std::pair<const char*, std::function<void(Plan&)>> changes[] = {
      {"path", [](Plan& p) { p.variables[0].path += "x"; }},
      {"shape",
       [](Plan& p) {
         p.variables[0].shape = {3, 5};
       }},
      {"dtype", [](Plan& p) { p.variables[0].dtype = DType::bf16; }},
      {"role", [](Plan& p) { p.variables[0].role = Role::statistic; }},
      {"by_optimizer", [](Plan& p) { p.variables[0].by_optimizer = true; }},
      {"layout_given", [](Plan& p) { p.variables[0].layout_given = true; }},
      {"aggregation_given", [](Plan& p) { p.variables[0].aggregation_given = true; }},
      {"layout_rule", [](Plan& p) { p.variables[0].layout_rule = 0; }},
      {"parameter", [](Plan& p) { p.variables[0].parameter = 0; }},
      {"slot", [](Plan& p) { p.variables[0].slot = 0; }},
      {"layout", [](Plan& p) { p.variables[0].layout.axes[1] = "data"; }},
      {"on_tape", [](Plan& p) { p.variables[0].on_tape = false; }},
      {"in_gradient_sync", [](Plan& p) { p.variables[0].in_gradient_sync = false; }},
      {"aggregation", [](Plan& p) { p.variables[0].aggregation = Aggregation::max; }},
      {"residence", [](Plan& p) { p.variables[0].residence = Residence::split; }},
      {"rules", [](Plan& p) { p.variables[0].rules[4] = "R9"; }},
      {"section", [](Plan& p) { p.variables[0].section = Section::frozen; }},
      {"bucket", [](Plan& p) { ++p.variables[0].bucket; }},
      {"offset", [](Plan& p) { ++p.variables[0].offset; }},
      {"local_elements", [](Plan& p) { ++p.variables[0].local_elements; }},
      {"pending", [](Plan& p) { p.pending.emplace_back("later"); }},
      {"begin of a bucket", [](Plan& p) { ++p.buckets[0].begin; }},
      {"end of a bucket", [](Plan& p) { ++p.buckets[0].end; }},
      {"dtype of a bucket", [](Plan& p) { p.buckets[0].dtype = DType::bf16; }},
      {"split of a bucket", [](Plan& p) { p.buckets[0].split_by_batch = true; }},
      {"members of a bucket", [](Plan& p) { std::swap(p.buckets[0].variables[0], p.buckets[0].variables[1]); }},
      {"arena_elements", [](Plan& p) { ++p.arena_elements; }},
      {"frozen_bytes", [](Plan& p) { ++p.frozen_bytes; }},
      {"local_bytes", [](Plan& p) { ++p.local_bytes; }},
      {"slots", [](Plan& p) { ++p.slots; }},
      {"master_slot", [](Plan& p) { ++p.master_slot; }},
      {"activation_bytes", [](Plan& p) { ++p.activation_bytes; }},
      {"kind of a collective", [](Plan& p) { p.collectives[0].kind = CollectiveKind::broadcast; }},
      {"dtype of a collective", [](Plan& p) { p.collectives[0].dtype = DType::i64; }},
      {"group of a collective", [](Plan& p) { p.collectives[0].group = "model"; }},
      {"bytes of a collective", [](Plan& p) { ++p.collectives[0].bytes; }},
      {"phase of a collective", [](Plan& p) { p.collectives[0].phase = Phase::micro_batch; }},
      {"what a collective carries", [](Plan& p) { p.collectives[0].what += "x"; }},
      {"order of collectives", [](Plan& p) { std::swap(p.collectives.front(), p.collectives.back()); }},
      {"ranks of a class", [](Plan& p) { ++p.classes[0].ranks; }},
      {"first rank of a class", [](Plan& p) { ++p.classes[0].first_rank; }},
      {"node_copy of a class", [](Plan& p) { p.classes[0].node_copy = !p.classes[0].node_copy; }},
      {"parameters of a class", [](Plan& p) { ++p.classes[0].memory.parameters; }},
      {"slots of a class", [](Plan& p) { ++p.classes[0].memory.slots; }},
      {"gradients of a class", [](Plan& p) { ++p.classes[0].memory.gradients; }},
      {"scalars of a class", [](Plan& p) { ++p.classes[0].memory.scalars; }},
      {"gathered of a class", [](Plan& p) { ++p.classes[0].memory.gathered; }},
  };
  const Plan plan = plan_for(2);
  for (const auto& [field, change] : changes) {
    Plan changed = plan;
    change(changed);
    EXPECT_NE(changed.hash(), plan.hash()) << field;
  }
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
