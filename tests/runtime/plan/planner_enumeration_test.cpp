// SPDX-License-Identifier: Apache-2.0
// Plans of everything that can be declared on every mesh of up to 64 ranks, each checked rank by rank.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <map>

#include "tests/runtime/plan/brute_force.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

constexpr std::array kDTypes = {DType::f32, DType::bf16, DType::f64, DType::i32, DType::i64, DType::f16};

// What may be declared, by a table of its own.
bool legal(Role role, DType dtype, int rank, std::optional<Aggregation> aggregation) {
  static const std::map<Role, std::vector<DType>> dtypes = {
      {Role::parameter, {DType::f32, DType::bf16, DType::f16}},
      {Role::frozen_parameter, {kDTypes.begin(), kDTypes.end()}},
      {Role::slot, {DType::f32, DType::bf16, DType::f64, DType::f16}},
      {Role::counter, {DType::i64}},
      {Role::hyperparameter, {DType::f64}},
      {Role::loss_scale, {DType::f32, DType::f64}},
      {Role::statistic, {DType::f32, DType::bf16, DType::f64, DType::f16}},
      {Role::statistic_counter, {DType::i64}},
      {Role::random_state, {DType::i64}},
      {Role::data_cursor, {DType::i64}},
      {Role::metric, {kDTypes.begin(), kDTypes.end()}},
  };
  const std::vector<DType>& allowed = dtypes.at(role);
  if (std::find(allowed.begin(), allowed.end(), dtype) == allowed.end()) return false;
  if ((role == Role::counter || role == Role::hyperparameter || role == Role::loss_scale) && rank > 0) return false;
  if (role == Role::statistic)
    return aggregation == Aggregation::mean || aggregation == Aggregation::only_first_replica;
  if (!aggregation) return true;
  return role == Role::metric && (aggregation == Aggregation::sum || aggregation == Aggregation::max ||
                                  (aggregation == Aggregation::mean && dtype != DType::i32 && dtype != DType::i64));
}

struct NamedShape {
  std::string name;
  Shape shape;
};

// Shapes of ranks 0 to 4, some empty, some with sizes 1, and three that the axes of the mesh divide.
std::vector<NamedShape> shapes(int parts, int other) {
  return {{"scalar", {}},
          {"one", {1}},
          {"none", {0}},
          {"one_one", {1, 1}},
          {"seven", {7}},
          {"small", {8, 3}},
          {"empty_rows", {0, 5}},
          {"empty_middle", {2, 0, 3}},
          {"cube", {4, 1, 6}},
          {"kernel", {3, 3, 1, 8}},
          {"fit_rows", {2 * other, 3}},
          {"fit_columns", {3, 2 * other}},
          {"fit_both", {2 * parts, 3 * other}}};
}

struct Kind {
  Role role;
  DType dtype;
  NamedShape shape;
  std::optional<Aggregation> aggregation;
  std::string path() const {
    return str(to_string(role), "/", to_string(dtype), "/", shape.name, "/",
               aggregation ? to_string(*aggregation) : "default");
  }
};

std::vector<std::optional<Aggregation>> aggregations() {
  std::vector<std::optional<Aggregation>> all = {std::nullopt};
  for (int a = 0; a < kAggregations; ++a) all.push_back(Aggregation(a));
  return all;
}

// Everything that a model may declare; slots come with the optimizer.
std::vector<Kind> legal_kinds(const std::vector<NamedShape>& shapes) {
  std::vector<Kind> kinds;
  for (int r = 0; r < kRoles; ++r)
    for (const DType dtype : kDTypes)
      for (const NamedShape& shape : shapes)
        for (const auto& aggregation : aggregations())
          if (Role(r) != Role::slot && legal(Role(r), dtype, shape.shape.rank(), aggregation))
            kinds.push_back({Role(r), dtype, shape, aggregation});
  return kinds;
}

std::vector<std::vector<MeshAxis>> meshes() {
  std::vector<std::vector<MeshAxis>> all;
  for (int a = 1; a <= 64; ++a) all.push_back({{"data", a}});
  for (int a = 1; a <= 64; ++a)
    for (int b = 1; a * b <= 64; ++b) all.push_back({{"data", a}, {"model", b}});
  for (int a = 1; a <= 4; ++a)
    for (int b = 1; b <= 4; ++b)
      for (int c = 1; c <= 4; ++c) all.push_back({{"expert", a}, {"data", b}, {"model", c}});
  return all;
}

enum class Rules { none, matching, not_matching, on_scalars, on_batch_axis, all_that_fits, by_hand, exact_wins, all };
constexpr int kRuleSets = 9;

struct Case {
  std::vector<MeshAxis> mesh;
  std::string batch_axis;
  std::string other;  // an axis that is not the batch's, where there is one
  int zero;
  Copies copies;
  Rules rules;
  size_t number;  // chooses the rest

  int size(std::string_view axis) const {
    for (const MeshAxis& each : mesh)
      if (each.name == axis) return each.size;
    return 0;
  }
};

LayoutMap layouts(const Case& c, const std::vector<Kind>& chosen) {
  LayoutMap map;
  switch (c.rules) {
    case Rules::none:
    case Rules::by_hand:
      break;
    case Rules::matching:
      map.add(".*/fit_rows/.*", {{c.other, ""}});
      map.add(".*/fit_columns/.*", {{"", c.other}});
      break;
    case Rules::not_matching:
      map.add("nothing/.*", {{c.other}});
      break;
    case Rules::on_scalars:
      map.add(".*/scalar/.*", {{c.other}});
      map.add("adam/.*", {{c.batch_axis}});
      break;
    case Rules::on_batch_axis:
      map.add(".*/fit_both/.*", {{c.batch_axis, c.other == c.batch_axis ? "" : c.other}});
      break;
    case Rules::all_that_fits:
    case Rules::all:
      map.add(".*", {{c.other, ""}});
      break;
    case Rules::exact_wins:
      map.add(".*/fit_rows/.*", {{c.other, ""}});
      for (const Kind& kind : chosen)
        if (kind.shape.name == "fit_rows" && kind.role == Role::parameter) map.add(kind.path(), {{"", ""}});
      break;
  }
  return map;
}

// Some of the kinds, others for every case: weights of both sorts and the rest.
std::vector<Kind> choose(const std::vector<Kind>& kinds, size_t number) {
  std::array<std::vector<const Kind*>, 3> sorts;
  for (const Kind& kind : kinds)
    sorts[kind.role == Role::parameter ? 0 : kind.role == Role::frozen_parameter ? 1 : 2].push_back(&kind);
  constexpr std::array<size_t, 3> kTake = {16, 16, 48};
  std::vector<Kind> chosen;
  for (size_t s = 0; s < sorts.size(); ++s)
    for (size_t i = 0; i < std::min(kTake[s], sorts[s].size()); ++i)
      chosen.push_back(*sorts[s][(number * kTake[s] + i) % sorts[s].size()]);
  return chosen;
}

VariableTable declare(const Case& c, const std::vector<Kind>& chosen) {
  VariableTable table;
  for (const Kind& kind : chosen) {
    VariableDeclaration declaration{kind.path(), kind.shape.shape, kind.dtype, kind.role, Initializer::constant(0),
                                    {},          kind.aggregation};
    if (c.rules == Rules::by_hand) {
      declaration.layout = Layout::replicated(kind.shape.shape.rank());
      if (kind.shape.name == "fit_rows") declaration.layout = Layout{{c.other, ""}};
      if (kind.shape.name == "fit_columns" && kind.role == Role::parameter) declaration.layout = Layout{{"", c.other}};
    }
    table.declare(std::move(declaration));
  }
  return table;
}

struct Tally {
  int64_t plans = 0, declared = 0, planned = 0, refused = 0;
};

const Optimizer& optimizer(size_t number) {
  static const std::array<std::unique_ptr<Optimizer>, 4> all = {make_optimizer("adam"), make_optimizer("sgd"),
                                                                make_optimizer("nadam"), make_optimizer("adagrad")};
  return *all[number % all.size()];
}

// Whether the case may be planned: only the rule for everything has variables that it cannot fit.
void plan_and_verify(const Case& c, const std::vector<Kind>& kinds, Tally& tally) {
  const std::vector<Kind> chosen = choose(kinds, c.number);
  const VariableTable variables = declare(c, chosen);
  constexpr std::array<int64_t, 3> kAccumulation = {1, 3, 4}, kBucketBytes = {1, 700, 4 << 20};
  constexpr std::array<int64_t, 4> kRanksPerNode = {0, 1, 2, 5};
  constexpr std::array<int, 5> kVirtualRanks = {1, 3, 8, 16, 24};
  constexpr std::array kModes = {ReduceMode::tree, ReduceMode::fast, ReduceMode::mpi};
  const size_t n = c.number;
  const ReduceMode mode = kModes[n / 2 % 3];
  const bool any_f16 = std::ranges::any_of(
      chosen, [](const Kind& kind) { return kind.role == Role::parameter && kind.dtype == DType::f16; });
  PlannerInput input{.variables = variables,
                     .optimizer = optimizer(n),
                     .settings = {.mesh = c.mesh,
                                  .batch_axis = c.batch_axis,
                                  .layout_rules = layouts(c, chosen).rules(),
                                  .reduce = mode,
                                  .reduce_dtype = n / 7 % 2 && mode != ReduceMode::mpi ? DType::bf16 : DType::f32,
                                  .virtual_ranks = kVirtualRanks[n % 5],
                                  .zero = c.zero,
                                  .accumulation = kAccumulation[n % 3],
                                  .bucket_bytes = kBucketBytes[n / 3 % 3],
                                  .copies = c.copies,
                                  .ranks_per_node = kRanksPerNode[n / 5 % 4],
                                  .replicate_indivisible = c.rules == Rules::all_that_fits,
                                  .stochastic_rounding = n / 11 % 2 && !any_f16}};
  const auto where = [&] {
    return str("case ", n, ": mesh ", to_string(c.mesh), ", batch axis ", c.batch_axis, ", ZeRO ", c.zero, ", ",
               to_string(c.copies), ", rules ", int(c.rules));
  };
  try {
    const Plan plan = make_plan(input);
    ASSERT_NE(c.rules, Rules::all) << where();
    ASSERT_EQ(brute_force(input, plan), "") << where();
    ++tally.plans;
    tally.declared += int64_t(chosen.size());
    tally.planned += int64_t(plan.variables.size());
  } catch (const Error& error) {
    ASSERT_EQ(c.rules, Rules::all) << where() << "\n" << error.what();
    ASSERT_THAT(error.what(), testing::AllOf(HasSubstr("cannot have the layout [" + c.other + ", -]"),
                                             HasSubstr("layout rule '.*'"), HasSubstr("variable ")));
    ++tally.refused;
  }
}

// Plans every `stride`-th case.
Tally enumerate(size_t stride) {
  Tally tally;
  size_t number = 0;
  for (const std::vector<MeshAxis>& mesh : meshes())
    for (const bool last_axis : {false, true}) {
      Case c{.mesh = mesh, .batch_axis = "data", .other = "data", .zero = 0, .copies = {}, .rules = {}, .number = 0};
      if (last_axis && mesh.back().name == "data") continue;
      if (last_axis) c.batch_axis = mesh.back().name;
      for (const MeshAxis& axis : mesh)
        if (axis.name != c.batch_axis) c.other = axis.name;
      if (mesh.size() == 1) c.other = c.batch_axis;
      const std::vector<Kind> kinds = legal_kinds(shapes(c.size(c.batch_axis), c.size(c.other)));
      for (int stage = -1; stage < 4; ++stage)
        for (int rules = 0; rules < kRuleSets; ++rules) {
          c.zero = std::max(0, stage);
          c.copies = stage < 0 ? Copies::per_node : Copies::per_rank;
          c.rules = Rules(rules);
          c.number = number++;
          if (c.number % stride != 0) continue;
          plan_and_verify(c, kinds, tally);
          if (testing::Test::HasFatalFailure()) return tally;
        }
    }
  std::printf(
      "%lld plans hold all invariants: %lld combinations of declared variable, mesh, stage, rules, role, dtype "
      "and shape, %lld with those of the optimizer; %lld plans were rightly refused\n",
      static_cast<long long>(tally.plans), static_cast<long long>(tally.declared),
      static_cast<long long>(tally.planned), static_cast<long long>(tally.refused));
  return tally;
}

TEST(PlannerEnumeration, RefusesEveryIllegalPairOfRoleDTypeShapeAndAggregation) {
  int allowed = 0, refused = 0;
  for (int r = 0; r < kRoles; ++r)
    for (const DType dtype : kDTypes)
      for (const NamedShape& shape : shapes(2, 2))
        for (const auto& aggregation : aggregations()) {
          const Kind kind{Role(r), dtype, shape, aggregation};
          VariableTable table;
          try {
            table.declare({kind.path(), shape.shape, dtype, Role(r), {}, {}, aggregation});
            EXPECT_TRUE(legal(Role(r), dtype, shape.shape.rank(), aggregation)) << kind.path();
            ++allowed;
          } catch (const Error& error) {
            EXPECT_FALSE(legal(Role(r), dtype, shape.shape.rank(), aggregation)) << error.what();
            EXPECT_THAT(error.what(), HasSubstr("variable " + kind.path()));
            ++refused;
          }
        }
  std::printf("%d declarations are legal, %d are refused\n", allowed, refused);
  EXPECT_GT(allowed, 300);
  EXPECT_GT(refused, 3000);
}

TEST(PlannerEnumeration, HoldsEveryInvariantOnASlice) { EXPECT_GT(enumerate(101).declared, 10'000); }

TEST(PlannerEnumeration, HoldsEveryInvariantOnAMillionCombinations) { EXPECT_GE(enumerate(1).declared, 1'000'000); }

}  // namespace
}  // namespace lockstep
