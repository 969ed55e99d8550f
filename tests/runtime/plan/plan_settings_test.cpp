// SPDX-License-Identifier: Apache-2.0
// One list of the fields of PlanSettings serves hash, file, difference and description: here every field is looked for
// in each of them.
#include "runtime/plan/plan_settings.h"

#include <nlohmann/json.hpp>
#include <type_traits>

#include "runtime/plan/plan_json.h"
#include "runtime/plan/plan_text.h"
#include "runtime/plan/planner.h"
#include "tests/support/files.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

// Every field is another than by default.
PlanSettings unusual() {
  return {.mesh = {{"rows", 2}, {"model", 2}},
          .batch_axis = "model",
          .layout_rules = {{"w", {{"rows", ""}}, "rules.toml:3"}},
          .optimizer = "sgd",
          .reduce = ReduceMode::fast,
          .reduce_dtype = DType::bf16,
          .activations = DType::bf16,
          .virtual_ranks = 3,
          .zero = 1,
          .accumulation = 2,
          .bucket_bytes = 1,
          .first_bucket_bytes = 2,
          .copies = Copies::per_rank,
          .ranks_per_node = 2,
          .replicate_indivisible = true,
          .sums = 3,
          .stochastic_rounding = true,
          .workload = {12, 34, 56, 7.25e9}};
}

Plan plan_of(PlanSettings settings) {
  VariableTable variables;
  variables.parameter("w", {4, 2}, {});
  variables.parameter("gain", {}, {});
  return make_plan({.variables = variables, .optimizer = *make_optimizer("sgd"), .settings = std::move(settings)});
}

void change(std::vector<MeshAxis>& mesh) { mesh[1].size *= 2; }
void change(std::vector<LayoutRule>& rules) { rules[0].layout = {{"", "rows"}}; }
void change(std::string& text) { text = text == "model" ? "rows" : text + "x"; }  // an axis stays one
void change(bool& flag) { flag = !flag; }
template <class Number>
requires std::is_arithmetic_v<Number>
void change(Number& number) { number += 1; }
template <class Enum>
requires std::is_enum_v<Enum>
void change(Enum& value) {
  value = Enum{};  // the first, which nothing is in unusual()
}

TEST(PlanSettings, ListsEveryFieldThatItHas) {
  // Which does not compile when there is one more: name it here, and change it in unusual().
  const PlanSettings settings = unusual();
  const auto& [mesh, batch_axis, layout_rules, optimizer, reduce, reduce_dtype, activations, virtual_ranks, zero,
               accumulation, bucket_bytes, first_bucket_bytes, copies, ranks_per_node, replicate_indivisible, sums,
               stochastic_rounding, workload] = settings;
  const auto& [batch, activation_bytes, model_parallel_bytes, flops] = workload;
  const std::vector<const void*> all = {&mesh,
                                        &batch_axis,
                                        &layout_rules,
                                        &optimizer,
                                        &reduce,
                                        &reduce_dtype,
                                        &activations,
                                        &virtual_ranks,
                                        &zero,
                                        &accumulation,
                                        &bucket_bytes,
                                        &first_bucket_bytes,
                                        &copies,
                                        &ranks_per_node,
                                        &replicate_indivisible,
                                        &sums,
                                        &stochastic_rounding,
                                        &batch,
                                        &activation_bytes,
                                        &model_parallel_bytes,
                                        &flops};
  std::vector<const void*> listed;
  for_each_field(settings, [&](const SettingField&, const auto& value) { listed.push_back(&value); });
  EXPECT_THAT(listed, testing::UnorderedElementsAreArray(all));
}

TEST(PlanSettings, HaveEveryFieldInHashFileAndDifference) {
  const Plan plan = plan_of(unusual());
  const auto json = nlohmann::json::parse(plan_to_json(plan));
  size_t fields = 0;
  for_each_field(plan.settings, [&](const SettingField&, const auto&) { ++fields; });
  for (size_t i = 0; i < fields; ++i) {
    Plan changed = plan;
    std::string name;
    size_t next = 0;
    for_each_field(changed.settings, [&](const SettingField& field, auto& value) {
      if (next++ != i) return;
      name = field.name;
      change(value);
    });
    EXPECT_NE(changed.hash(), plan.hash()) << name;
    auto written = nlohmann::json::parse(plan_to_json(changed));
    const auto& place = name == "mesh" ? written : written["settings"];
    EXPECT_NE(place[name], (name == "mesh" ? json : json["settings"])[name]) << name;
    std::ranges::replace(name, '_', ' ');
    EXPECT_THAT(plan_difference(plan, changed), HasSubstr(name + ": "));
  }
}

TEST(PlanSettings, AreReadFromAFileAsTheyWereWritten) {
  const Plan plan = plan_of(unusual());
  const Plan read = plan_from_json(plan_to_json(plan), "p.json");
  const std::vector<SettingText> before = setting_texts(plan.settings), after = setting_texts(read.settings);
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_FALSE(before[i].is_default) << before[i].field.name << " shows nothing here";
    EXPECT_EQ(after[i].value, before[i].value) << before[i].field.name;
  }
  EXPECT_EQ(read.settings.layout_rules[0].where, "rules.toml:3");
}

TEST(PlanSettings, DescribeARunByWhatDecidesItsNumbers) {
  EXPECT_EQ(run_text(plan_of({.mesh = {{"data", 4}}, .bucket_bytes = 1}).settings, InRun::always),
            " reduce=tree virtual_ranks=4");
  EXPECT_EQ(run_text({.ranks_per_node = 2}, InRun::unless_default), "");
  EXPECT_EQ(run_text({.reduce_dtype = DType::bf16, .accumulation = 3}, InRun::unless_default),
            " reduce_dtype=bf16 accumulation=3");
}

TEST(PlanSettings, SayHowManyPartsABatchHas) {
  const std::vector<MeshAxis> mesh = {{"data", 4}, {"model", 2}};
  EXPECT_EQ(plan_of({.mesh = mesh}).settings.parts(), 4);
  EXPECT_EQ(plan_of({.mesh = mesh, .virtual_ranks = 6}).settings.parts(), 6);
  EXPECT_EQ(plan_of({.mesh = mesh, .reduce = ReduceMode::fast, .virtual_ranks = 6}).settings.parts(), 4);
  EXPECT_EQ((PlanSettings{.mesh = mesh, .batch_axis = "model"}.parts()), 2) << "before it is planned";
}

TEST(PlanSettings, MakeTheFirstBucketSmallerSoThatItsSumStartsEarly) {
  VariableTable variables;
  for (const char* path : {"a", "b", "c", "d", "e", "f"}) variables.parameter(path, {64}, {});
  const auto members = [&](PlanSettings settings) {
    settings.mesh = {{"data", 2}};
    const Plan plan = make_plan({.variables = variables, .optimizer = *make_optimizer("sgd"), .settings = settings});
    std::vector<size_t> counts;
    for (const PlannedBucket& bucket : plan.buckets) counts.push_back(bucket.variables.size());
    return counts;
  };
  using testing::ElementsAre;
  EXPECT_THAT(members({.bucket_bytes = 3 * 256}), ElementsAre(3, 3));
  EXPECT_THAT(members({.bucket_bytes = 3 * 256, .first_bucket_bytes = 1}), ElementsAre(1, 3, 2));
  EXPECT_THAT(members({.bucket_bytes = 3 * 256, .first_bucket_bytes = 2 * 256}), ElementsAre(2, 3, 1));
  EXPECT_THAT(members({.bucket_bytes = 1, .first_bucket_bytes = 5 * 256}), ElementsAre(5, 1)) << "or larger";
  EXPECT_THROW(members({.first_bucket_bytes = -1}), Error);
}

}  // namespace
}  // namespace lockstep
