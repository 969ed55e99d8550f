// SPDX-License-Identifier: Apache-2.0
// The search equals brute force: every candidate planned whole, the best picked by its own comparison.
#include "runtime/plan/plan_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <random>

#include "tests/runtime/plan/brute_force.h"
#include "tests/support/cases.h"

namespace lockstep {
namespace {

struct SearchCase {
  VariableTable variables;
  LayoutMap layouts;
  std::unique_ptr<Optimizer> optimizer;
  Workload workload;
  SearchSpace space;
  Distribution distribution;
  Copies copies = Copies::per_rank;
  bool replicate = false;
  int64_t ranks_per_node = 0;
  int virtual_ranks = 1;
  MachineProfile machine{"drawn", {}, {}, 0};

  explicit SearchCase(uint64_t seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](int64_t n) { return int64_t(random() % uint64_t(n)); };
    const int64_t layers = 1 + below(12);
    for (int64_t i = 0; i < layers; ++i) {
      const int64_t rows = 8 * (1 + below(64)), columns = 4 * (1 + below(100));
      const DType dtype = below(3) ? DType::bf16 : DType::f32;
      variables.declare({str("layer_", i, "/weight"), {rows, columns}, dtype, Role::parameter, {}, {}});
      variables.declare({str("layer_", i, "/bias"),
                         {columns},
                         DType::f32,
                         below(5) ? Role::parameter : Role::frozen_parameter,
                         {},
                         {}});
    }
    variables.parameter("temperature", {}, {});
    if (below(3)) layouts.add("layer_[0-9]+/weight", below(2) ? Layout{{"model", ""}} : Layout{{"", "model"}});
    if (below(4) == 0) layouts.add(".*/bias", Layout{{"data"}});
    replicate = below(3) == 0;
    const std::string names[] = {"sgd", "adam", "adamw"};
    optimizer = make_optimizer(names[below(3)]);
    const int64_t ranks = int64_t(1) << below(7);
    const std::vector<std::string> axes =
        layouts.empty() ? std::vector<std::string>{"data"} : std::vector<std::string>{"data", "model"};
    space.meshes = mesh_factorisations(ranks * (below(4) ? 1 : 3), axes);
    space.zero = {0, 1, 2, 3};
    if (below(3)) workload = {below(500), 1 + below(4000), below(3000), double(below(1'000'000))};
    space.accumulation = workload.batch > 0 ? std::vector<int64_t>{1, 2, 4, 8} : std::vector<int64_t>{1};
    space.bucket_bytes = {1 << 12, 1 << 16, 1 << 20};
    distribution = model_parallel(space.meshes.back(), layouts);
    if (below(4) == 0) copies = Copies::per_node;
    if (below(2)) ranks_per_node = 1 + below(8);
    virtual_ranks = int(below(16));
    machine.node = {double(1 + below(50)) * 1e-6, double(1 + below(100)) * 1e-11};
    machine.network = {double(1 + below(50)) * 1e-5, double(1 + below(100)) * 1e-10};
    machine.flops_per_rank = below(2) ? 1e9 : 0;
  }

  PlannerInput input() const {
    return {.variables = variables,
            .optimizer = *optimizer,
            .settings = {.mesh = distribution.mesh,
                         .batch_axis = distribution.batch_axis,
                         .layout_rules = distribution.layouts.rules(),
                         .virtual_ranks = virtual_ranks,
                         .copies = copies,
                         .ranks_per_node = ranks_per_node,
                         .replicate_indivisible = replicate,
                         .workload = workload}};
  }
};

struct Planned {
  Candidate choice;
  int64_t batch_ranks;
};

bool comes_before(const Planned& a, const Planned& b) {
  if (a.choice.seconds != b.choice.seconds) return a.choice.seconds < b.choice.seconds;
  if (a.choice.zero != b.choice.zero) return a.choice.zero < b.choice.zero;
  if (a.choice.accumulation != b.choice.accumulation) return a.choice.accumulation < b.choice.accumulation;
  if (a.batch_ranks != b.batch_ranks) return a.batch_ranks > b.batch_ranks;
  if (a.choice.bytes != b.choice.bytes) return a.choice.bytes < b.choice.bytes;
  return a.choice.bucket_bytes < b.choice.bucket_bytes;
}

// Every plan of the space that can be made.
std::vector<Planned> brute_force(const SearchCase& c) {
  std::vector<Planned> all;
  for (const std::vector<MeshAxis>& mesh : c.space.meshes)
    for (const int zero : c.space.zero)
      for (const int64_t accumulation : c.space.accumulation)
        for (const int64_t bucket_bytes : c.space.bucket_bytes) {
          Candidate choice{mesh, zero, accumulation, bucket_bytes};
          if (zero > 0 && c.copies == Copies::per_node) continue;
          std::optional<Plan> plan;
          try {
            plan = make_plan(planner_input(c.input(), choice));
          } catch (const Error&) {  // a layout that does not divide
            continue;
          }
          const int64_t batch_ranks = plan->settings.batch_ranks();
          if (c.workload.batch > 0 && c.workload.batch < batch_ranks * accumulation) continue;
          choice.bytes = plan->memory().total() + plan->activation_bytes;
          const StepForecast step = forecast_step(plan->settings, plan->buckets, c.machine);
          choice.seconds = step.seconds();
          all.push_back({choice, batch_ranks});
        }
  return all;
}

TEST(PlanSearch, EqualsBruteForceOnRandomCases) {
  constexpr int kSeeds = kUnderSanitizer ? 40 : 200;
  int with_some = 0, with_none = 0, without_plans = 0;
  double slowest = 0;  // for the reader: time decides nothing
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(str("seed ", seed));
    const SearchCase c(seed);
    std::vector<Planned> all = brute_force(c);
    if (all.empty()) {  // more ranks than samples, or layouts that divide nowhere
      ++without_plans;
      const SearchResult result = search_plans(c.input(), c.space, 1, c.machine);
      EXPECT_EQ(result.evaluated, 0);
      EXPECT_THAT(search_report(c.input(), c.space, result, 1, c.machine), testing::HasSubstr("no plan is possible"));
      continue;
    }
    // A limit between the smallest and the largest, or below all.
    int64_t least = std::numeric_limits<int64_t>::max(), most = 0;
    for (const Planned& p : all) least = std::min(least, p.choice.bytes), most = std::max(most, p.choice.bytes);
    const int64_t limit = seed % 7 == 0 ? least - 1 : least + (most - least) * int64_t(seed % 5) / 8;
    const auto begin = std::chrono::steady_clock::now();
    const SearchResult result = search_plans(c.input(), c.space, limit, c.machine);
    slowest = std::max(slowest, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    EXPECT_EQ(result.evaluated, int64_t(all.size()));
    EXPECT_EQ(result.fitting.size() + result.too_large.size(), all.size());
    std::erase_if(all, [&](const Planned& p) { return p.choice.bytes > limit; });
    ASSERT_EQ(result.fitting.size(), all.size());
    const std::string report = search_report(c.input(), c.space, result, limit, c.machine);
    if (all.empty()) {
      ++with_none;
      EXPECT_EQ(result.too_large.front().bytes, least);
      EXPECT_THAT(report, testing::HasSubstr("none fits"));
      continue;
    }
    ++with_some;
    const Planned& best = *std::min_element(all.begin(), all.end(), comes_before);
    const Candidate& found = result.fitting.front();
    EXPECT_EQ(found.mesh, best.choice.mesh);
    EXPECT_EQ(found.zero, best.choice.zero);
    EXPECT_EQ(found.accumulation, best.choice.accumulation);
    EXPECT_EQ(found.bucket_bytes, best.choice.bucket_bytes);
    EXPECT_EQ(found.bytes, best.choice.bytes);
    EXPECT_EQ(found.seconds, best.choice.seconds);
    EXPECT_THAT(report, testing::HasSubstr("best"));
  }
  std::printf("the slowest of %d searches took %.1f ms\n", kSeeds, slowest * 1e3);
  EXPECT_GT(with_some, kSeeds / 2);
  EXPECT_GT(with_none, kSeeds / 10);
  EXPECT_GT(without_plans, 0);
}

// Plans keep classes of ranks; here every rank is looked at by itself.
TEST(PlanClasses, EqualBruteForceOnEveryMeshOfUpTo64Ranks) {
  VariableTable variables;
  variables.parameter("weight", {64, 12}, {});
  variables.parameter("gain", {}, {});
  variables.declare({"half", {16, 8}, DType::bf16, Role::parameter, {}, {}});
  variables.declare({"table", {5}, DType::f32, Role::frozen_parameter, {}, {}});
  variables.declare({"seen", {}, DType::i64, Role::metric, {}, {}});
  LayoutMap layouts;
  layouts.add(".*", Layout{{"model", ""}});
  const auto adam = make_optimizer("adam");
  int64_t plans = 0;
  for (int64_t ranks = 1; ranks <= 64; ++ranks)
    for (const std::vector<std::string>& axes :
         {std::vector<std::string>{"data"}, {"data", "model"}, {"model", "data"}, {"other", "data", "model"}})
      for (const std::vector<MeshAxis>& mesh : mesh_factorisations(ranks, axes))
        for (const int zero : {-1, 0, 1, 2, 3}) {  // -1: one copy per node
          const bool ruled = axes.size() > 1;
          const PlannerInput input{.variables = variables,
                                   .optimizer = *adam,
                                   .settings = {.mesh = mesh,
                                                .batch_axis = "data",
                                                .layout_rules = (ruled ? layouts : LayoutMap()).rules(),
                                                .virtual_ranks = int(1 + (ranks * 7 + plans) % 19),
                                                .zero = std::max(zero, 0),
                                                .accumulation = 1 + plans % 3,
                                                .bucket_bytes = 1 << 10,
                                                .copies = zero < 0 ? Copies::per_node : Copies::per_rank,
                                                .ranks_per_node = plans % 9,
                                                .replicate_indivisible = true}};
          ASSERT_EQ(brute_force(input, make_plan(input)), "") << to_string(mesh) << ", ZeRO " << zero;
          ++plans;
        }
  EXPECT_GT(plans, 5000);
}

TEST(PlanSearch, WritesEveryNumberAsAProductOfAxes) {
  const auto meshes = mesh_factorisations(12, {"data", "model"});
  ASSERT_EQ(meshes.size(), 6u);
  for (const auto& mesh : meshes) EXPECT_EQ(mesh[0].size * mesh[1].size, 12);
  EXPECT_EQ(mesh_factorisations(8, {"a", "b", "c"}).size(), 10u);
  EXPECT_EQ(mesh_factorisations(7, {"data"}).size(), 1u);
}

TEST(PlanSearch, SaysWhichMeshesAreExcludedAndWhy) {
  VariableTable variables;
  variables.parameter("odd/weight", {6, 5}, {});
  LayoutMap layouts;
  layouts.add("odd/weight", Layout{{"model", ""}});
  const auto sgd = make_optimizer("sgd");
  SearchSpace space{mesh_factorisations(4, {"data", "model"}), {0}, {1}, {1 << 20}};
  const PlannerInput input{
      .variables = variables,
      .optimizer = *sgd,
      .settings = {.mesh = space.meshes[0], .layout_rules = layouts.rules(), .copies = Copies::per_rank}};
  const SearchResult result = search_plans(input, space, 1 << 30, machine_profile("cpu"));
  EXPECT_EQ(result.evaluated, 2);
  ASSERT_EQ(result.excluded.size(), 1u);
  EXPECT_THAT(result.excluded[0], testing::AllOf(testing::HasSubstr("data=1,model=4"), testing::HasSubstr("odd/weight"),
                                                 testing::HasSubstr("size 6 is not divisible by model=4")));
}

}  // namespace
}  // namespace lockstep
