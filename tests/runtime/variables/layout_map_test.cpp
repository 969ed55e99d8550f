// SPDX-License-Identifier: Apache-2.0
#include "runtime/variables/layout_map.h"

#include <thread>

#include "runtime/plan/planner.h"
#include "tests/support/cases.h"
#include "tests/support/files.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

LayoutMap map_of(const std::vector<std::string>& patterns) {
  LayoutMap map;
  for (size_t i = 0; i < patterns.size(); ++i)
    map.add(patterns[i], {{"axis" + std::to_string(i)}}, str("r.toml:", i + 1));
  return map;
}

std::string refusal(const std::string& pattern, const std::string& where = "") {
  return error_of([&] {
    LayoutMap map;
    map.add(pattern, {}, where);
  });
}

std::string find_error(const LayoutMap& map, std::string_view path) {
  return error_of([&] { map.find(path); });
}

TEST(LayoutMap, MatchesWholePathsOnly) {
  const LayoutMap map = map_of({"dense/.*", "b+|cd", "literal"});
  EXPECT_EQ(map.find("dense/weight"), 0);
  EXPECT_EQ(map.find("dense/"), 0);
  EXPECT_EQ(map.find("my/dense/weight"), -1);
  EXPECT_EQ(map.find("dense"), -1);
  // Anchors hold for the whole alternative.
  EXPECT_EQ(map.find("bbb"), 1);
  EXPECT_EQ(map.find("cd"), 1);
  EXPECT_EQ(map.find("bcd"), -1);
  EXPECT_EQ(map.find("bx"), -1);
  EXPECT_EQ(map.find("xcd"), -1);
  EXPECT_EQ(map.find("literal"), 2);
  EXPECT_EQ(map.find("literal/"), -1);
  EXPECT_EQ(map.find(""), -1);
  EXPECT_EQ(map.find("dense/w\nx"), -1);  // as in Python, . is no end of line
}

TEST(LayoutMap, LetsTheExactPathWinOverEveryPattern) {
  const LayoutMap map = map_of({".*", ".*/weight", "dense/weight", "layers.0.bias"});
  EXPECT_EQ(map.find("dense/weight"), 2);
  EXPECT_EQ(map.find("dense/bias"), 0);
  EXPECT_EQ(map.find("layers.0.bias"), 3);
  EXPECT_THAT(find_error(map, "other/weight"), StartsWith("plan: variable other/weight matches 2 layout rules"));
  // A path with a special character is a pattern, too.
  EXPECT_EQ(map_of({"layers.0.bias"}).find("layers/0/bias"), 0);
}

TEST(LayoutMap, NamesAllRulesThatMatchAndNeverChoosesByOrder) {
  const std::vector<std::string> patterns = {"a/.*", ".*/b", "c"};
  for (const auto& order : {patterns, std::vector<std::string>{"c", ".*/b", "a/.*"}}) {
    const LayoutMap map = map_of(order);
    EXPECT_THAT(find_error(map, "a/b"),
                AllOf(HasSubstr("variable a/b matches 2 layout rules"), HasSubstr("'a/.*' (r.toml:"),
                      HasSubstr("'.*/b' (r.toml:"), HasSubstr("make all but one narrower")));
    EXPECT_EQ(map.rules()[size_t(map.find("a/x"))].pattern, "a/.*");
    EXPECT_EQ(map.rules()[size_t(map.find("x/b"))].pattern, ".*/b");
  }
  std::vector<std::string> many;
  for (int i = 0; i < 20; ++i) many.push_back(std::string(size_t(i), '.') + ".*");
  EXPECT_THAT(find_error(map_of(many), std::string(30, 'x')),
              AllOf(HasSubstr("matches 20 layout rules"), HasSubstr("and 12 more")));
}

TEST(LayoutMap, TwoRulesForAScalarAreAnErrorToo) {
  VariableTable variables;
  variables.parameter("gain", {}, {});
  const auto adam = make_optimizer("adam");
  const auto plan_with = [&](const std::vector<std::string>& patterns) {
    LayoutMap map;
    for (const std::string& pattern : patterns) map.add(pattern, {{"model"}});
    return make_plan({.variables = variables,
                      .optimizer = *adam,
                      .settings = {.mesh = {{"data", 2}, {"model", 2}}, .layout_rules = map.rules()}});
  };
  EXPECT_THAT(error_of([&] {
                plan_with({".*iteration", "adam/.*"});
              }),
              HasSubstr("variable adam/iteration matches 2 layout rules: '.*iteration', 'adam/.*'"));
  EXPECT_THAT(error_of([&] { plan_with({"g.*", ".*n"}); }), HasSubstr("variable gain matches 2 layout rules"));
  // One rule, or the exact path beside others: the scalar is replicated, and the rule that matches is told.
  const Plan plan = plan_with({".*", "adam/iteration"});
  EXPECT_EQ(plan.at("adam/iteration").layout, Layout{});
  EXPECT_EQ(plan.at("adam/iteration").layout_rule, 1);
  EXPECT_EQ(plan.at("gain").layout, Layout{});
  EXPECT_EQ(plan.at("gain").layout_rule, 0);
}

TEST(LayoutMap, RefusesDuplicatesAndWhatIsNoPattern) {
  LayoutMap map = map_of({"a/.*", "b"});
  const auto again = [&](const std::string& pattern) { return error_of([&] { map.add(pattern, {}, "r.toml:9"); }); };
  EXPECT_THAT(again("a/.*"),
              AllOf(StartsWith("plan: r.toml:9: there are two layout rules for 'a/.*'"), HasSubstr("r.toml:1")));
  EXPECT_THAT(again("b"), HasSubstr("two layout rules for 'b'"));
  EXPECT_EQ(map.rules().size(), 2u);
  EXPECT_THAT(refusal(""), StartsWith("plan: a layout rule needs a pattern"));
  for (const char* pattern : {"a(",
                              "a)",
                              "[",
                              "[z-a]",
                              "*",
                              "+a",
                              "a**",
                              "(?=a)",
                              "(?!a)",
                              "(a)\\1",
                              "a{2,1}",
                              "\\",
                              "\\q",
                              "(?P<a",
                              "(?<n a)",
                              "a{1001}",
                              "(a{1000}){1000}",
                              "a{1000}{1000}",

                              "\\p{Nonsense}",
                              "\xff.",
                              ".\xc0\xaf"})
    EXPECT_THAT(refusal(pattern, "r.toml:7"),
                AllOf(StartsWith("plan: r.toml:7: "), HasSubstr("is no regular expression")))
        << pattern;
  EXPECT_THAT(refusal("a\x1b[2J"), AllOf(HasSubstr("'a?[2J' has a control character"), Not(HasSubstr("\x1b"))));
  EXPECT_THAT(refusal(std::string("a\0b", 3)), HasSubstr("control character"));
}

TEST(LayoutMap, StaysUsableAfterARefusal) {
  LayoutMap map = map_of({"a/.*"});
  EXPECT_EQ(map.find("a/b"), 0);
  EXPECT_NE(error_of([&] { map.add("b(", {}); }), "");
  EXPECT_EQ(map.find("a/b"), 0);
  map.add("b/.*", {});
  EXPECT_EQ(map.find("b/c"), 1);
}

TEST(LayoutMap, CopiesAndMovesWithItsRules) {
  LayoutMap map = map_of({"a/.*", "b"});
  LayoutMap copy = map;
  map.add("c/.*", {});
  EXPECT_EQ(copy.find("c/d"), -1);
  EXPECT_EQ(map.find("c/d"), 2);
  LayoutMap moved = std::move(map);
  EXPECT_EQ(moved.find("c/d"), 2);
  copy = moved;
  EXPECT_EQ(copy.find("c/d"), 2);
  EXPECT_EQ(LayoutMap().find("a"), -1);
}

TEST(LayoutMap, CanBeAskedByManyThreadsAtOnce) {
  for (int round = 0; round < 20; ++round) {
    const LayoutMap map = map_of({"a/.*", "b/.*"});
    std::vector<std::thread> threads;
    std::vector<int> found(4);
    for (size_t i = 0; i < found.size(); ++i) threads.emplace_back([&, i] { found[i] = map.find("b/x"); });
    for (std::thread& thread : threads) thread.join();
    EXPECT_THAT(found, testing::Each(1));
  }
}

// What backtracking engines need 2^n steps for.
TEST(HostilePattern, MatchesInLinearTime) {
  const std::string path = std::string(100'000, 'a') + "!";
  for (const char* pattern :
       {"(a+)+$", "(a|a)*b", "(a*)*b", "(.*)(.*)(.*)(.*)(.*)x", "(a|aa)+", "([a-z]+)*=", "(((a*)*)*)*x"})
    EXPECT_EQ(map_of({pattern}).find(path), -1) << pattern;
  std::vector<std::string> together = {"(a+)+$", "(a|a)*b", "(a*)*b", "(a|aa)+"};
  EXPECT_EQ(map_of(together).find(path), -1);
}

TEST(HostilePattern, IsRefusedWhenItWouldMakeMatchingSlow) {
  for (const char* pattern :
       {".*a.{400}", "(a?b?c?){900}", "((a{0,30}){0,30}b*)*", "(.*a.*b.*){200}", "((a|b|c){0,900})"})
    EXPECT_THAT(refusal(pattern, "r.toml:3"),
                AllOf(StartsWith("plan: r.toml:3: "), HasSubstr("would make matching slow: it takes "),
                      HasSubstr("at most 500")))
        << pattern;
  EXPECT_THAT(refusal("\\pL{1000}"), HasSubstr("pattern too large"));
  EXPECT_THAT(refusal(std::string(1'000'000, 'a')), HasSubstr("has 1000000 characters; at most 1000"));
  EXPECT_THAT(refusal(std::string(1'000'000, '(')), HasSubstr("at most 1000"));
  EXPECT_THAT(refusal(std::string(1'000, '(')), HasSubstr("is no regular expression"));
  EXPECT_EQ(refusal(std::string(400, '(') + "a" + std::string(400, ')')), "");
}

TEST(HostilePattern, IsRefusedWhenManyWouldMakeMatchingSlowTogether) {
  const auto fill = [](const auto& pattern) {
    LayoutMap map;
    const std::string error = error_of([&] {
      for (int i = 0; i < 200'000; ++i) map.add(pattern(i), {}, str("r.toml:", i));
    });
    return std::pair(error, map.rules().size());
  };
  const auto [repeating, repeating_rules] = fill([](int i) { return str(".*/", i, "/.{10}"); });
  EXPECT_THAT(repeating,
              AllOf(StartsWith("plan: r.toml:"), HasSubstr("make matching slow together"), HasSubstr("at most 8000")));
  EXPECT_LT(repeating_rules, 200u);
  const auto [plain, plain_rules] = fill([](int i) { return str("layers.", i, ".weight"); });
  EXPECT_THAT(plain, HasSubstr("at most 1000000"));
  EXPECT_GT(plain_rules, 20'000u);
  const auto [exact, exact_rules] = fill([](int i) { return str("layers/", i, "/weight"); });
  EXPECT_EQ(exact, "");
  EXPECT_EQ(exact_rules, 200'000u);
}

TEST(LayoutMap, TakesAsManyRulesAsModelsHaveVariables) {
  constexpr int kVariables = kUnderSanitizer ? 1'000 : 10'000;
  LayoutMap map;
  for (int i = 0; i < kVariables; ++i) map.add(str("layers.", i, ".weight"), {});
  for (int i = 0; i < kVariables; ++i) ASSERT_EQ(map.find(str("layers/", i, "/weight")), i);
}

TEST(Mesh, IsReadFromAShortText) {
  EXPECT_EQ(parse_mesh("data=8,model=4"), (std::vector<MeshAxis>{{"data", 8}, {"model", 4}}));
  EXPECT_EQ(to_string(parse_mesh("data=8,model=4")), "data=8,model=4");
  for (const char* text : {"", "data", "=8", "data=", "data=0", "data=-1", "data=8,", ",data=8", "data=8x", "data= 8",
                           "data=1e3", "data=99999999999999999999", "data=10000001", "data=8;model=4"})
    EXPECT_THAT(error_of([&] { parse_mesh(text); }), AllOf(StartsWith("usage: "), HasSubstr("data=8,model=4"))) << text;
}

TEST(Mesh, IsRefusedWhenItCannotBeMeant) {
  const auto refuses = [](std::vector<MeshAxis> mesh, const std::string& batch = "") {
    return error_of([&] { data_parallel(std::move(mesh), batch); });
  };
  EXPECT_THAT(refuses({}), HasSubstr("at least one axis"));
  EXPECT_THAT(refuses({{"a", 0}}), HasSubstr("expected at least 1"));
  EXPECT_THAT(refuses({{"a", -3}, {"b", -3}}), HasSubstr("expected at least 1"));
  EXPECT_THAT(refuses({{"a", 2}, {"a", 2}}), HasSubstr("two axes named 'a'"));
  EXPECT_THAT(refuses({{"a", 2}}, "b"), HasSubstr("the batch axis 'b' is not in the mesh a=2"));
  EXPECT_THAT(refuses({{"a", 100'000}, {"b", 100'000}}), HasSubstr("more than 10000000 ranks"));
  EXPECT_THAT(refuses({{"a", 2'147'483'647}, {"b", 2'147'483'647}}), HasSubstr("more than 10000000 ranks"));
  EXPECT_THAT(refuses(std::vector<MeshAxis>(100'000, {"a", 1})), HasSubstr("at most 16 axes, got 100000"));
  for (const char* name : {"", "-", "a b", "a,b", "a=b", "a\x1b", "\n"})
    EXPECT_THAT(refuses({{name, 2}}), StartsWith("plan: axis 0 of ")) << name;
  EXPECT_THAT(refuses({{std::string(1'000'000, 'a'), 2}}), HasSubstr("at most 64 characters"));
  EXPECT_EQ(refuses({{"a", 10'000'000}}), "");
}

TEST(Mesh, ChoosesTheBatchAxisByNameAndThenByOrder) {
  EXPECT_EQ(data_parallel({{"model", 2}, {"data", 2}, {"batch", 2}}).batch_axis, "data");
  EXPECT_EQ(data_parallel({{"model", 2}, {"batch", 2}}).batch_axis, "batch");
  EXPECT_EQ(data_parallel({{"x", 2}, {"y", 2}}).batch_axis, "x");
  EXPECT_EQ(data_parallel({{"x", 2}, {"y", 2}}, "y").batch_axis, "y");
}

TEST(Mesh, RefusesRulesOfAnotherMesh) {
  const auto refuses = [](const Layout& layout) {
    LayoutMap map;
    map.add("a/.*", layout, "r.toml:5");
    return error_of([&] { model_parallel({{"data", 2}, {"model", 2}}, map); });
  };
  EXPECT_EQ(refuses({{"", "model"}}), "");
  EXPECT_THAT(refuses({{"expert"}}), AllOf(HasSubstr("'a/.*' (r.toml:5) with layout [expert] names the axis 'expert'"),
                                           HasSubstr("data, model")));
  EXPECT_THAT(refuses({{"model", "", "model"}}), HasSubstr("splits dimensions 0 and 2 by the same axis 'model'"));
  EXPECT_THAT(refuses({std::vector<std::string>(100'000, "model")}), HasSubstr("layout of 100000 dimensions"));
}

}  // namespace
}  // namespace lockstep
