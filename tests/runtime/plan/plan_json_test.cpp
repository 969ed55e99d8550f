// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/plan_json.h"

#include <nlohmann/json.hpp>
#include <random>

#include "runtime/plan/plan_text.h"
#include "runtime/plan/planner.h"
#include "tests/support/cases.h"
#include "tests/support/files.h"

namespace lockstep {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::StartsWith;

LayoutMap rules(const std::vector<std::pair<std::string, Layout>>& entries, const std::string& where = "") {
  LayoutMap map;
  for (const auto& [pattern, layout] : entries) map.add(pattern, layout, where);
  return map;
}

VariableTable small_variables() {
  VariableTable variables;
  variables.parameter("w", {4, 2}, {});
  variables.parameter("gain", {}, {});
  return variables;
}

// One of every role, with layouts and aggregations given and not, bf16, sizes 0 and 1, and a shape that is not known.
VariableTable rich_variables() {
  VariableTable variables;
  variables.parameter("dense/weight", {8, 4}, {});
  variables.parameter("gain", {}, {});
  variables.parameter("none", {0}, {});
  variables.declare({.path = "b\"16\\/\xc3\xa4",
                     .shape = {16},
                     .dtype = DType::bf16,
                     .role = Role::parameter,
                     .initializer = {},
                     .layout = Layout{{"model"}}});
  variables.declare({.path = "table",
                     .shape = {4, 2},
                     .dtype = DType::i32,
                     .role = Role::frozen_parameter,
                     .initializer = {},
                     .layout = {}});
  variables.declare({.path = "mean",
                     .shape = {4},
                     .dtype = DType::f64,
                     .role = Role::statistic,
                     .initializer = {},
                     .layout = {},
                     .aggregation = Aggregation::mean});
  variables.declare({.path = "right",
                     .shape = {},
                     .dtype = DType::i64,
                     .role = Role::metric,
                     .initializer = {},
                     .layout = {},
                     .aggregation = Aggregation::max});
  variables.declare({.path = "seen",
                     .shape = {1},
                     .dtype = DType::i64,
                     .role = Role::statistic_counter,
                     .initializer = {},
                     .layout = {}});
  variables.declare(
      {.path = "scale", .shape = {}, .dtype = DType::f32, .role = Role::loss_scale, .initializer = {}, .layout = {}});
  variables.declare({.path = "later",
                     .shape = {},
                     .dtype = DType::f32,
                     .role = Role::parameter,
                     .initializer = {},
                     .layout = {},
                     .shape_pending = true});
  return variables;
}

Plan small_plan() {
  const VariableTable variables = small_variables();
  const auto adam = make_optimizer("adam");
  return make_plan({.variables = variables,
                    .optimizer = *adam,
                    .settings = {.mesh = {{"data", 2}, {"model", 2}},
                                 .layout_rules = rules({{"w", {{"", "model"}}}}).rules(),
                                 .virtual_ranks = 4,
                                 .bucket_bytes = 1,
                                 .workload = {12, 34, 56, 7.25e9}}});
}

std::vector<Plan> many_plans() {
  std::vector<Plan> plans;
  const VariableTable variables = rich_variables();
  const LayoutMap map =
      rules({{"dense/.*", {{"model", ""}}}, {".*(gain|iteration)", {}}, {"nothing", {{"model"}}}}, "r.toml:3");
  for (const char* name : {"adam", "sgd", "ftrl"})
    for (const char* mesh : {"data=1,model=1", "data=2,model=2", "model=4,data=3", "data=8,model=1"})
      for (const int zero : {0, 1, 2, 3})
        for (const bool per_rank : {false, true}) {
          if (zero > 0 && !per_rank) continue;
          const auto optimizer = make_optimizer(name);
          plans.push_back(make_plan({.variables = variables,
                                     .optimizer = *optimizer,
                                     .settings = {.mesh = parse_mesh(mesh),
                                                  .layout_rules = map.rules(),
                                                  .reduce = zero % 2 ? ReduceMode::fast : ReduceMode::tree,
                                                  .reduce_dtype = zero % 3 ? DType::bf16 : DType::f32,
                                                  .virtual_ranks = 8,
                                                  .zero = zero,
                                                  .accumulation = 1 + zero,
                                                  .bucket_bytes = zero == 2 ? 1 : 4 << 20,
                                                  .copies = per_rank ? Copies::per_rank : Copies::per_node,
                                                  .ranks_per_node = zero,
                                                  .replicate_indivisible = zero == 3,
                                                  .stochastic_rounding = zero == 2,
                                                  .workload = {1 << 20, 1 << 30, 1 << 29, 1.0 / 3.0}}}));
        }
  plans.push_back(small_plan());
  return plans;
}

std::string refusal(std::string_view text) {
  return error_of([&] { plan_from_json(text, "p.json"); });
}
std::string refusal_of(const json& document) { return refusal(document.dump()); }

// The document with the hash that its content has, so that nothing is refused for its hash alone.
json with_right_hash(json document) {
  const std::string marker = "p.json.hash: expected ";
  const std::string error = refusal_of(document);
  if (const size_t at = error.find(marker); at != error.npos) document["hash"] = error.substr(at + marker.size(), 16);
  return document;
}

void collect(const json& value, const json::json_pointer& at, std::vector<json::json_pointer>& all) {
  if (!at.empty()) all.push_back(at);
  if (value.is_object())
    for (const auto& [key, each] : value.items()) collect(each, at / key, all);
  if (value.is_array())
    for (size_t i = 0; i < value.size(); ++i) collect(value[i], at / i, all);
}

std::vector<json::json_pointer> places_of(const json& document) {
  std::vector<json::json_pointer> all;
  collect(document, json::json_pointer(), all);
  return all;
}

TEST(PlanJson, ReadsBackEveryPlanThatItWrote) {
  for (const Plan& plan : many_plans()) {
    const std::string text = plan_to_json(plan);
    const Plan read = plan_from_json(text, "p.json");
    EXPECT_EQ(read.hash(), plan.hash()) << to_string(plan.settings.mesh);
    EXPECT_EQ(read.warnings, plan.warnings);
    EXPECT_EQ(plan_to_json(read), text);
    // What a reader asks of a plan can be asked of one that was read.
    for (const PlannedVariable& variable : plan.variables)
      EXPECT_EQ(explain(read, variable.path), explain(plan, variable.path));
  }
}

TEST(PlanJson, KeepsWhatTheHashLeavesOut) {
  const VariableTable variables = small_variables();
  const auto adam = make_optimizer("adam");
  const Plan plan = make_plan({.variables = variables,
                               .optimizer = *adam,
                               .settings = {.mesh = {{"data", 1}, {"model", 2}},
                                            .layout_rules = rules({{"x", {{"model"}}}}, "dir/r.toml:17").rules()}});
  const Plan read = plan_from_json(plan_to_json(plan), "p.json");
  EXPECT_EQ(read.settings.layout_rules[0].where, "dir/r.toml:17");
  EXPECT_THAT(read.warnings, testing::Contains(HasSubstr("dir/r.toml:17")));
}

TEST(PlanJson, TellsWorkloadsApartThatDifferInTheLastDigit) {
  Plan plan = small_plan();
  const uint64_t hash = plan.hash();
  plan.settings.workload.flops_per_sample *= 1 + 1e-15;
  EXPECT_NE(plan.hash(), hash);
}

TEST(HostilePlan, IsRefusedWhateverFieldIsMissing) {
  const json whole = json::parse(plan_to_json(small_plan()));
  for (const auto& place : places_of(whole)) {
    json changed = whole;
    json& parent = changed[place.parent_pointer()];
    if (parent.is_object())
      parent.erase(place.back());
    else
      parent.erase(std::stoul(place.back()));
    EXPECT_THAT(refusal_of(changed), AnyOf(StartsWith("data: p.json"), StartsWith("plan: p.json"))) << place;
  }
}

TEST(HostilePlan, IsRefusedWhateverFieldHasAnotherValue) {
  const json whole = json::parse(plan_to_json(small_plan()));
  const std::vector<json> values = {nullptr,
                                    true,
                                    false,
                                    0,
                                    -1,
                                    3,
                                    1.5,
                                    std::numeric_limits<uint64_t>::max(),
                                    int64_t(1) << 60,
                                    "",
                                    "x",
                                    "\x1b[2J",
                                    json::array(),
                                    {{"a", 1}}};
  int turn = 0;
  for (const auto& place : places_of(whole)) {
    if (place.back() == "where") continue;  // the one text that means nothing to a plan
    for (const json& value : values) {
      if (turn++ % 3 != 0) continue;  // a third of all is enough
      json changed = whole;
      changed[place] = value;
      if (changed == whole) continue;
      EXPECT_THAT(refusal_of(changed), AnyOf(StartsWith("data: p.json"), StartsWith("plan: p.json")))
          << place << " = " << value;
    }
  }
}

TEST(HostilePlan, WithAMatchingHashIsRefusedOrConsistent) {
  const json whole = json::parse(plan_to_json(small_plan()));
  const std::vector<json> values = {
      true, false, 0,     1,      2,      5,        64,       96,     128,    int64_t(1) << 40,
      "",   "x",   "sum", "bf16", "slot", "metric", "frozen", "tree", "split"};
  int accepted = 0, turn = 0;
  for (const auto& place : places_of(whole))
    for (const json& value : values) {
      if (turn++ % (kUnderSanitizer ? 25 : 5) != 0) continue;  // a fifth of all is enough
      json changed = whole;
      changed[place] = value;
      if (changed == whole) continue;
      changed = with_right_hash(changed);
      if (!refusal_of(changed).empty()) continue;
      ++accepted;
      const Plan plan = plan_from_json(changed.dump(), "p.json");
      EXPECT_EQ(json::parse(plan_to_json(plan)), changed) << place << " = " << value;
      for (const PlannedVariable& variable : plan.variables) explain(plan, variable.path);
    }
  EXPECT_GT(accepted, 0);  // such as another path or another number of samples
}

TEST(HostilePlan, CannotChangeADecisionEvenWithAMatchingHash) {
  const json whole = json::parse(plan_to_json(small_plan()));
  const auto index = [&](const std::string& path) {
    for (size_t i = 0; i < whole["variables"].size(); ++i)
      if (whole["variables"][i]["path"] == path) return i;
    return size_t(0);
  };
  const auto changed = [&](const std::string& path, const char* key, const json& value) {
    json copy = whole;
    copy["variables"][index(path)][key] = value;
    return refusal_of(with_right_hash(copy));
  };
  const std::string counter = "adam/iteration", slot = "w/adam/momentum";
  EXPECT_THAT(changed(counter, "on_tape", true), HasSubstr(".on_tape: expected false, got true; the file was changed"));
  EXPECT_THAT(changed(counter, "in_gradient_sync", true), HasSubstr("expected false, got true"));
  EXPECT_THAT(changed(counter, "aggregation", "sum"), HasSubstr("expected \"only_first_replica\", got \"sum\""));
  EXPECT_THAT(changed(counter, "aggregation_given", true), StartsWith("data: p.json"));
  EXPECT_THAT(changed(counter, "layout", {"data"}), HasSubstr(".layout: expected a list of 0, got one of 1"));
  EXPECT_THAT(changed(counter, "residence", "split"), HasSubstr("expected \"each_rank\", got \"split\""));
  EXPECT_THAT(changed(counter, "bytes_per_rank", 16), HasSubstr("expected 8, got 16"));
  EXPECT_THAT(changed(counter, "dtype", "f32"), HasSubstr("must be i64"));
  EXPECT_THAT(changed(counter, "shape", {1}), HasSubstr("must be a scalar"));
  EXPECT_THAT(changed(counter, "role", "frozen"), HasSubstr("unknown role 'frozen'"));
  EXPECT_THAT(changed("gain", "in_gradient_sync", false), HasSubstr("expected true, got false"));
  EXPECT_THAT(changed("w", "owner", "adam"), HasSubstr("expected \"model\", got \"adam\""));
  EXPECT_THAT(changed("w", "layout_rule", -1), HasSubstr(".layout_rule: expected 0, got -1"));
  EXPECT_THAT(changed("w", "layout", {nullptr, "data"}), HasSubstr(".layout[1]: expected \"model\", got \"data\""));
  // Slots of themselves, of each other, of later variables, and of nothing.
  EXPECT_THAT(changed(slot, "parameter", index(slot)),
              HasSubstr("expected the number of a trainable parameter before"));
  EXPECT_THAT(changed(slot, "parameter", index(slot) + 1), HasSubstr("expected the number of a trainable parameter"));
  EXPECT_THAT(changed("w/adam/velocity", "parameter", index(slot)), HasSubstr("expected the number of a trainable"));
  EXPECT_THAT(changed(slot, "parameter", -1), HasSubstr("expected the number of a trainable parameter"));
  EXPECT_THAT(changed(slot, "parameter", 1 << 30), HasSubstr("expected the number of a trainable parameter"));
  EXPECT_THAT(changed("w", "parameter", 0), HasSubstr("expected -1, as this is no slot"));
  EXPECT_THAT(changed(slot, "slot", 60), StartsWith("plan: p.json: "));
  EXPECT_THAT(changed("w", "bucket", 0), StartsWith("plan: p.json: "));
  EXPECT_THAT(changed("w", "offset", 1 << 20), StartsWith("plan: p.json: "));
}

TEST(HostilePlan, IsRefusedWhereverItIsCut) {
  const std::string whole = json::parse(plan_to_json(small_plan())).dump();
  ASSERT_EQ(refusal(whole), "");
  for (size_t bytes = 0; bytes < whole.size(); ++bytes)
    ASSERT_THAT(refusal(std::string_view(whole).substr(0, bytes)), StartsWith("data: p.json is no JSON")) << bytes;
}

TEST(HostilePlan, IsRefusedWhereverABitIsFlipped) {
  const std::string whole = json::parse(plan_to_json(small_plan())).dump();
  std::mt19937 random(1);
  for (size_t i = 0; i < whole.size(); i += 2) {
    std::string changed = whole;
    changed[i] = char(changed[i] ^ (1 << random() % 8));
    ASSERT_THAT(refusal(changed), AnyOf(StartsWith("data: p.json"), StartsWith("plan: p.json"))) << i;
  }
}

TEST(HostilePlan, IsRefusedWhateverItHolds) {
  const std::string whole = plan_to_json(small_plan());
  const std::string deep(100'000, '['), huge(50'000'000, '[');
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = whole;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  const std::pair<std::string, std::string> cases[] = {
      {"", "p.json is no JSON"},
      {"null", "p.json: expected an object, got null"},
      {"3", "p.json: expected an object, got 3"},
      {"[]", "p.json: expected an object, got an array"},
      {"{}", "p.json has no 'format'"},
      {"{\"format\": 2}", "p.json.format: expected a whole number from 1 to 1, got 2"},
      {huge, "p.json nests more than 16 levels deep"},
      {deep + std::string(100'000, ']'), "nests more than 16 levels"},
      {"{\"a\":" + deep, "nests more than 16 levels"},
      {whole + "x", "is no JSON"},
      {whole + whole, "is no JSON"},
      {whole + std::string(1, '\0'), "is no JSON: it has a NUL"},
      {whole + std::string("\0garbage", 8), "is no JSON: it has a NUL"},
      {with("\"zero\": 0", "\"zero\": 1e999"), "is no JSON"},
      {with("\"zero\": 0", "\"zero\": 00"), "is no JSON"},
      {with("\"zero\": 0", "\"zero\": 0.0"), "p.json.settings.zero: expected a whole number from 0 to 3, got 0.0"},
      {with("\"zero\": 0", "\"zero\": 99999999999999999999999999"), "expected a whole number from 0 to 3, got 1e+26"},
      {with("\"zero\": 0", "\"zero\": 0, \"zero\": 0"), "some of them equal; its first is \"accumulation\""},
      {with("\"zero\": 0", "\"zero\": 0, \"one\": 0"), "p.json.settings: the key \"one\" is unknown"},
      {with("\"optimizer\": \"adam\"", "\"optimizer\": \"a\xff\""), "is no JSON"},
      {with("\"optimizer\": \"adam\"", "\"optimizer\": \"\xed\xa0\x80\""), "is no JSON"},
      {with("\"optimizer\": \"adam\"", "\"optimizer\": \"\\u0000\""),
       "a text without control characters, got \"\\u0000\""},
      {with("\"hash\": \"", "\"hash\": \"0"), "p.json.hash: expected "},
      {with("\"pattern\": \"w\"", "\"pattern\": \"(\""), "plan: p.json: '(' is no regular expression"},
      {with("\"pattern\": \"w\"", "\"pattern\": \".*a.{400}\""), "would make matching slow"},
      {with("\"axis\": \"model\"", "\"axis\": \"data\""), "plan: p.json: mesh 'data=2,data=2' has two axes"},
      {with("\"size\": 2", "\"size\": 2147483647"), "more than 10000000 ranks"},
  };
  for (const auto& [text, message] : cases) {
    const std::string got = refusal(text);
    EXPECT_THAT(got, HasSubstr(message));
    EXPECT_LT(got.size(), 600u);
  }
  EXPECT_EQ(refusal("\xef\xbb\xbf" + whole), "");  // the byte order mark that editors write
}

TEST(HostilePlan, WithHugeNumbersIsRefusedWithoutOverflow) {
  const json whole = json::parse(plan_to_json(small_plan()));
  const int64_t most = int64_t(1) << 48;
  for (const int64_t size : {most, most + 1, int64_t(1) << 61, std::numeric_limits<int64_t>::max()}) {
    for (const char* key : {"/buckets/0/end", "/buckets/1/begin", "/buckets/1/end", "/arena_elements", "/local_bytes",
                            "/frozen_bytes", "/variables/0/offset", "/variables/0/shape/0", "/settings/batch",
                            "/settings/accumulation", "/settings/virtual_ranks", "/settings/ranks_per_node",
                            "/settings/activation_bytes_per_sample", "/slots", "/mesh/0/size", "/mesh/1/size"}) {
      json changed = whole;
      changed[json::json_pointer(key)] = size;
      changed = with_right_hash(changed);
      const std::string error = refusal_of(changed);
      EXPECT_TRUE(!error.empty() || std::string_view(key) == "/settings/ranks_per_node") << key << " = " << size;
    }
  }
}

}  // namespace
}  // namespace lockstep
