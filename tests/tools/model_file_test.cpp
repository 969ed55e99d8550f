// SPDX-License-Identifier: Apache-2.0
#include "tools/planning/model_file.h"

#include "runtime/plan/planner.h"
#include "tests/support/files.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr std::string_view kVariable = "[[variable]]\npath = 'w'\nshape = [4, 2]\ndtype = 'f32'\nrole = 'parameter'\n";

std::string refusal(std::string_view text) {
  return error_of([&] { read_model_text(text, "m.toml"); });
}
std::string rules_refusal(std::string_view text) {
  return error_of([&] { read_rules_text(text, "r.toml"); });
}
// A file with one variable, whose table is given.
std::string with_variable(const std::string& table) { return "name = 'm'\n[[variable]]\n" + table; }
std::string with_field(const std::string& field) {
  std::string table = "path = 'w'\nshape = [4, 2]\ndtype = 'f32'\nrole = 'parameter'\n";
  const std::string key = field.substr(0, field.find(' ') + 1);
  if (const size_t at = table.find(key); at != table.npos) table.erase(at, table.find('\n', at) + 1 - at);
  return with_variable(table + field + "\n");
}
std::string with_workload(const std::string& fields) {
  return str("name = 'm'\n[workload]\n", fields, "\n", kVariable);
}

std::vector<std::string> paths(const VariableTable& variables) {
  std::vector<std::string> paths;
  for (const VariableDeclaration& declaration : variables.declarations()) paths.push_back(declaration.path);
  return paths;
}

TEST(ModelFile, ReadsEverythingThatTheFormatHas) {
  const DescribedModel model = read_model_text(R"(
name = "m"
[workload]
batch = 12
activation_bytes_per_sample = 34
model_parallel_bytes_per_sample = 56
flops_per_sample = 7.5e9
[[variable]]
path = "a/weight"
shape = [3, 4]
dtype = "bf16"
role = "parameter"
layout = ["-", "model"]
[[variable]]
path = "a/mean"
shape = []
dtype = "f64"
role = "statistic"
aggregation = "mean"
[[variable]]
path = "later"
dtype = "f32"
role = "frozen_parameter"
[[variable]]
path = "later too"
shape = "unknown"
dtype = "i32"
role = "frozen_parameter"
[layout]
'z/.*' = ["model"]
'b/.*' = ["-", "model"]
)",
                                               "m.toml");
  EXPECT_EQ(model.name, "m");
  EXPECT_EQ(model.workload, (Workload{12, 34, 56, 7.5e9}));
  const auto& declared = model.variables.declarations();
  ASSERT_EQ(declared.size(), 4u);
  EXPECT_EQ(declared[0].path, "a/weight");
  EXPECT_EQ(declared[0].shape, (Shape{3, 4}));
  EXPECT_EQ(declared[0].dtype, DType::bf16);
  EXPECT_EQ(declared[0].role, Role::parameter);
  EXPECT_EQ(declared[0].layout, (Layout{{"", "model"}}));
  EXPECT_FALSE(declared[0].aggregation);
  EXPECT_FALSE(declared[0].shape_pending);
  EXPECT_EQ(declared[1].shape, Shape{});
  EXPECT_FALSE(declared[1].shape_pending);
  EXPECT_FALSE(declared[1].layout);
  EXPECT_EQ(declared[1].aggregation, Aggregation::mean);
  EXPECT_TRUE(declared[2].shape_pending);
  EXPECT_TRUE(declared[3].shape_pending);
  // In the order of the file, with their lines.
  ASSERT_EQ(model.layouts.rules().size(), 2u);
  EXPECT_EQ(model.layouts.rules()[0].pattern, "z/.*");
  EXPECT_EQ(model.layouts.rules()[0].where, "m.toml:30");
  EXPECT_EQ(model.layouts.rules()[0].layout, (Layout{{"model"}}));
  EXPECT_EQ(model.layouts.rules()[1].layout, (Layout{{"", "model"}}));
}

TEST(ModelFile, NeedsNoMoreThanANameAndVariables) {
  const DescribedModel model = read_model_text(str("name = 'm'\n", kVariable), "m.toml");
  EXPECT_EQ(model.workload, Workload{});
  EXPECT_TRUE(model.layouts.empty());
  EXPECT_EQ(model.variables.declarations().size(), 1u);
}

TEST(ModelFile, NumbersLayersAndKeepsWhatIsRepeatedTogether) {
  const auto variable = [](const std::string& path, int repeat) {
    return str("[[variable]]\npath = '", path, "'\nshape = [2]\ndtype = 'f32'\nrole = 'parameter'\n",
               repeat ? str("repeat = ", repeat, "\n") : std::string());
  };
  const auto read = [](const std::string& text) {
    return paths(read_model_text("name = 'm'\n" + text, "m").variables);
  };
  EXPECT_THAT(read(variable("first", 0) + variable("a/{i}", 2) + variable("{i}/b/{i}", 2) + variable("last", 0)),
              ElementsAre("first", "a/0", "0/b/0", "a/1", "1/b/1", "last"));
  EXPECT_THAT(read(variable("a/{i}", 2) + variable("b/{i}", 1)), ElementsAre("a/0", "a/1", "b/0"));
  EXPECT_EQ(read(variable("a/{i}", 12)).back(), "a/11");
  EXPECT_THAT(refusal("name = 'm'\n" + variable("a/0", 0) + variable("a/{i}", 2)),
              AllOf(StartsWith("plan: m.toml:7: "), HasSubstr("a/0 is declared twice")));
}

TEST(ModelFile, RefusesAFieldThatIsMissingUnknownOrOfAnotherType) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "data: m.toml:1: 'name' is missing"},
      {"name = 'm'\n", "data: m.toml:1: 'variable' is missing"},
      {"name = 3\n", "data: m.toml:1: name: expected a text, got 3"},
      {"name = ''\n", "1 to 80 characters"},
      {"name = \"a\\u001b[2J\"\n", "1 to 80 characters without control characters, got the text 'a?[2J'"},
      {"name = 'm'\nvariable = 3\n", "m.toml:2: variable: expected tables [[variable]], got 3"},
      {"name = 'm'\nvariable = [1]\n", "m.toml:2: variable: expected tables [[variable]], got 1"},
      {"name = 'm'\n[variable]\npath = 'a'\n", "variable: expected tables [[variable]], got a table"},
      {"name = 'm'\nvariables = []\n", "m.toml:2: unknown key 'variables'; did you mean 'variable'?"},
      {str("name = 'm'\nlayout = 3\n", kVariable), "m.toml:2: layout: expected a table [layout], got 3"},
      {str("name = 'm'\nworkload = 1979-05-27\n", kVariable), "expected a table [workload], got a date or time"},
      {with_workload("batch = 0"), "m.toml:3: [workload]: batch: expected a whole number from 1 to 4294967296, got 0"},
      {with_workload("batch = 1.5"), "batch: expected a whole number"},
      {with_workload("batch = '8'"), "got the text '8'"},
      {with_workload("batches = 1"), "m.toml:3: [workload]: unknown key 'batches'; did you mean 'batch'?"},
      {with_workload("activation_bytes_per_sample = -1"), "expected a whole number from 0 to 1152921504606846976"},
      {with_workload("batch = 1024\nactivation_bytes_per_sample = 1152921504606846976"),
       "m.toml:4: [workload]: activation_bytes_per_sample: expected a whole number from 0 to 1125899906842624"},
      {with_workload("flops_per_sample = nan"), "flops_per_sample: expected a number from 0 to 1e30, got nan"},
      {with_workload("flops_per_sample = inf"), "got inf"},
      {with_workload("flops_per_sample = -1"), "got -1"},
      {with_workload("flops_per_sample = true"), "got true or false"},
      {with_variable("shape = [2]\n"), "m.toml:2: variable: 'path' is missing; add it, such as path = "},
      {with_variable("path = 'w'\nrole = 'parameter'\n"), "m.toml:2: variable 'w': 'dtype' is missing"},
      {with_variable("path = 'w'\ndtype = 'f32'\n"), "m.toml:2: variable 'w': 'role' is missing"},
      {with_field("shpae = [2]"), "variable 'w': unknown key 'shpae'; did you mean 'shape'? Known are: path, shape"},
      {with_field("path = 3"), "path: expected a text, got 3"},
      {with_field("path = ''"), "path: expected 1 to 200 bytes"},
      {with_field("path = \"a\\nb\""), "without control characters, got the text 'a?b'"},
      {with_field("path = '" + std::string(201, 'a') + "'"), "path: expected 1 to 200 bytes"},
      {with_field("dtype = 'f8'"), "dtype: expected one of f32, bf16, f64, i32, i64 and f16, got the text 'f8'"},
      {with_field("dtype = 32"), "dtype: expected a text, got 32"},
      {with_field("role = 'paramter'"), "unknown role 'paramter'; did you mean 'parameter'?"},
      {with_field("role = true"), "role: expected the name of one, got true or false"},
      {with_field("aggregation = 'average'"), "unknown aggregation 'average'"},
      {with_field("aggregation = 3"), "aggregation: expected the name of one, got 3"},
      {with_field("repeat = 3"), "repeat = N and {i} in the path go together"},
      {with_field("path = 'w{i}'"), "repeat = N and {i} in the path go together"},
      {with_field("repeat = 0"), "repeat: expected a whole number from 1 to 200000, got 0"},
      {with_field("repeat = 1.0"), "repeat: expected a whole number"},
  };
  for (const auto& [text, message] : cases) EXPECT_THAT(refusal(text), HasSubstr(message)) << text;
}

TEST(ModelFile, RefusesShapesThatAreNone) {
  const std::pair<std::string, std::string> cases[] = {
      {"shape = 3", "expected a list of sizes such as [128, 10], [] for a scalar, or \"unknown\", got 3"},
      {"shape = 'none'", "got the text 'none'"},
      {"shape = {}", "got a table"},
      {"shape = [-1]", "shape: expected a whole number from 0 to 281474976710656, got -1"},
      {"shape = [2, '3']", "got the text '3'"},
      {"shape = [2.0]", "expected a whole number"},
      {"shape = [[2]]", "got a list"},
      {"shape = [true]", "got true or false"},
      {"shape = [1000000000000000000]", "from 0 to 281474976710656, got 1000000000000000000"},
      {"shape = [281474976710656, 2]", "at most 2^48 elements"},
      {"shape = [16777216, 16777217]", "at most 2^48 elements"},
      {"shape = [1, 1, 1, 1, 1, 1, 1]", "at most 6 dimensions, got 7"},
      {"shape = [9223372036854775808]", "no TOML"},
      {"shape = [99999999999999999999999999]", "no TOML"},
  };
  for (const auto& [field, message] : cases)
    EXPECT_THAT(refusal(with_field(field)), AllOf(StartsWith("data: m.toml:6: "), HasSubstr(message))) << field;
  EXPECT_EQ(refusal(with_field("shape = [16777216, 16777216]")), "");
  EXPECT_EQ(refusal(with_field("shape = [0, 281474976710656]")), "");
}

TEST(ModelFile, RefusesLayoutsThatDoNotFit) {
  const std::pair<std::string, std::string> cases[] = {
      {"layout = 'model'", "expected a list with an axis of the mesh, or \"-\""},
      {"layout = ['-', '']", "layout: expected a list with an axis of the mesh"},
      {"layout = ['-', 1]", "got 1"},
      {"layout = ['model', 'model']", "the axis 'model' splits two dimensions"},
      {"layout = ['-']", "one entry for each of the 2 dimensions of the shape [4, 2], got 1"},
      {"layout = []", "one entry for each of the 2 dimensions of the shape [4, 2], got 0"},
      {"layout = ['-', '-', '-', '-', '-', '-', '-']", "at most 6 dimensions"},
  };
  for (const auto& [field, message] : cases)
    EXPECT_THAT(refusal(with_field(field)),
                AllOf(StartsWith("data: m.toml:7: variable 'w': layout: "), HasSubstr(message)))
        << field;
}

TEST(ModelFile, GivesThePlaceOfAVariableThatCannotBeDeclared) {
  EXPECT_THAT(refusal(with_field("dtype = 'i64'")),
              AllOf(StartsWith("plan: m.toml:2: "), HasSubstr("variable w has role parameter and dtype i64")));
  EXPECT_THAT(refusal(with_field("aggregation = 'mean'")), HasSubstr("this role decides the aggregation"));
  EXPECT_THAT(refusal(str("name = 'm'\n", kVariable, kVariable)),
              AllOf(StartsWith("plan: m.toml:7: "), HasSubstr("declared twice")));
}

TEST(ModelFile, ReadsNumbersAsTheyAreWritten) {
  EXPECT_THAT(refusal(with_field("shape = [010]")), StartsWith("data: m.toml:6: no TOML"));
  EXPECT_THAT(refusal(with_field("shape = [9223372036854775808]")), StartsWith("data: m.toml:6: no TOML"));
  EXPECT_THAT(refusal(with_field("shape = [-9223372036854775809]")), StartsWith("data: m.toml:6: no TOML"));
  EXPECT_THAT(refusal(with_workload("batch = 99999999999999999999")), StartsWith("data: m.toml:3: no TOML"));
  EXPECT_THAT(refusal(with_workload("flops_per_sample = 1e400")), StartsWith("data: m.toml:3: "));
}

TEST(ModelFile, BoundsTheNumberOfVariables) {
  const auto layers = [](int repeat, const std::string& path) {
    return str("[[variable]]\npath = '", path, "{i}'\nrepeat = ", repeat, "\ndtype = 'f32'\nrole = 'parameter'\n");
  };
  EXPECT_THAT(refusal("name = 'm'\n" + layers(100'000, "a") + layers(100'001, "b")),
              AllOf(StartsWith("data: m.toml:7: "), HasSubstr("at most 200000 variables")));
  EXPECT_THAT(refusal("name = 'm'\n" + layers(200'001, "a")), HasSubstr("from 1 to 200000, got 200001"));
}

TEST(RulesFile, IsATableOfLayouts) {
  const LayoutMap rules = read_rules_text("[layout]\n'.*/weight' = ['-', 'model']\n\"b\" = []\n", "r.toml");
  ASSERT_EQ(rules.rules().size(), 2u);
  EXPECT_EQ(rules.find("a/weight"), 0);
  EXPECT_EQ(rules.find("b"), 1);
  EXPECT_EQ(rules.rules()[1].layout, Layout{});
  EXPECT_EQ(rules.rules()[1].where, "r.toml:3");
  EXPECT_TRUE(read_rules_text("[layout]\n", "r.toml").empty());
}

TEST(RulesFile, RefusesWhatIsNoRule) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "data: r.toml:1: 'layout' is missing; add it, such as a table [layout]"},
      {"'.*' = ['-']", "data: r.toml:1: unknown key '.*'; did you mean 'layout'?"},
      {"layout = ['-']", "expected a table [layout], got a list"},
      {"[layout]\na.b = ['-']", "r.toml:2: [layout]: expected a rule like"},
      {"[layout]\n'a' = 'model'", "r.toml:2: [layout]: rule 'a': expected a list"},
      {"[layout]\n'a' = [1]", "rule 'a': expected a list"},
      {"[layout]\n'a' = ['x', 'x']", "rule 'a': the axis 'x' splits two dimensions"},
      {"[layout]\n'' = []", "plan: r.toml:2: a layout rule needs a pattern"},
      {"[layout]\n'a(' = []", "plan: r.toml:2: 'a(' is no regular expression"},
      {"[layout]\n'(?=a)' = []", "plan: r.toml:2: '(?=a)' is no regular expression"},
      {"[layout]\n'a{1000}{1000}' = []", "plan: r.toml:2: 'a{1000}{1000}' is no regular expression"},
      {"[layout]\n'a' = []\n\"a\" = []", "data: r.toml:3: no TOML"},
      {"[layout]\n'" + std::string(1'000'000, 'a') + "' = []", "has 1000000 characters; at most 1000"},
  };
  for (const auto& [text, message] : cases) EXPECT_THAT(rules_refusal(text), HasSubstr(message)) << text.substr(0, 100);
}

TEST(HostileModelFile, IsRefusedWhateverItHolds) {
  const std::string brackets(4 << 20, '['), dots = "a" + std::string(100'000, '.') + "a = 1\n";
  std::string keys = "a";
  for (int i = 0; i < 100'000; ++i) keys += ".a";
  const std::pair<std::string, std::string> cases[] = {
      {std::string("name = 'm\0'", 11), "no TOML"},
      {std::string("\0", 1), "no TOML"},
      {"\xff\xfe" + std::string("n\0", 2), "m.toml:1: characters beyond ASCII"},
      {"\xef\xbb\xbb", "m.toml:1: characters beyond ASCII"},
      {"name = 'm'\nname = '\xff'", "m.toml:2: characters beyond ASCII"},
      {"name = 'm' # \xc3\xa4", "beyond ASCII may stand only in comments on lines of their own"},
      {"name = \"\"\"\n# \"\"\" \xc3\xa4", "m.toml:2: characters beyond ASCII"},
      {"name = '\xed\xa0\x80'", "beyond ASCII"},
      {"# \xc0\xaf\n", "no TOML"},
      {"# \xff\n", "no TOML"},
      {brackets, "no TOML"},
      {brackets + "[", "expected at most 4194304 bytes, got 4194305"},
      {"a = " + brackets.substr(100), "no TOML"},
      {"a = {b = {b = {b = {b = {b = {b = {b = {b = {b = 1}}}}}}}}}", "no TOML"},
      {dots, "expected at most 64 dots in a line"},
      {keys + " = 1\n", "m.toml:1: expected at most 64 dots in a line"},
      {"[" + keys + "]\n", "expected at most 64 dots in a line"},
      {"name = 'm'\nname = 'm'\n", "m.toml:2: no TOML"},
      {"name = 'm'\n[workload]\n[workload]\n", "m.toml:3: no TOML"},
      {"name = 0x7fffffffffffffffff", "no TOML"},
      {"name = " + std::string(1'000'000, '1'), "no TOML"},
      {"name = '" + std::string(1'000'000, 'a') + "'", "1 to 80 characters"},
      {std::string(1'000'000, 'k') + " = 1", "unknown key 'kkkk"},
      {"\"\\u001b[2J\" = 1", "unknown key '?[2J'"},
      {"name = 'm", "no TOML"},
      // Here toml++ 3.3 runs into assertions.
      {"name = 'm'\n[[*a]]\n[b]\n", "data: m.toml:2: no TOML: check headers"},
      {"[*]", "data: m.toml:1: no TOML: check headers"},
      {std::string(4'000'000, '\n') + "[*]", "data: m.toml: no TOML: check headers"},
      {"\"name\xe2\x80\xae\" = 1", "beyond ASCII"},
  };
  for (const auto& [text, message] : cases) {
    const std::string got = refusal(text);
    EXPECT_THAT(got, AllOf(StartsWith("data: m.toml:"), HasSubstr(message))) << text.substr(0, 60);
    EXPECT_LT(got.size(), 600u) << text.substr(0, 60);
  }
}

TEST(HostileModelFile, TakesOtherLettersInCommentsAndAsEscapes) {
  EXPECT_EQ(refusal(str("# D\xc3\xa4mpfung\n \t# \xe4\xbd\xa0\xe5\xa5\xbd\nname = \"m\\u00e4\"\n", kVariable)), "");
}

TEST(HostileModelFile, TakesTheByteOrderMarkThatEditorsWrite) {
  EXPECT_EQ(refusal(str("\xef\xbb\xbfname = 'm'\r\n", kVariable)), "");
}

TEST(HostileModelFile, IsRefusedOrCompleteWhereverItIsCut) {
  const std::string whole = read_file(LOCKSTEP_SOURCE_DIR "/tools/models/small-classifier.toml");
  ASSERT_EQ(refusal(whole), "");
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    const std::string got = refusal(whole.substr(0, bytes));
    EXPECT_TRUE(got.empty() || got.find("m.toml:") != got.npos) << bytes << " " << got;
  }
}

TEST(ModelFiles, AreFilesOfABoundedSize) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { read_model_file(folder / "absent.toml"); }), StartsWith("file: cannot open"));
  EXPECT_THAT(error_of([&] { read_rules_file(folder.path()); }), StartsWith("file: cannot read"));
  EXPECT_THAT(error_of([&] { read_model_file("/dev/zero"); }), StartsWith("file: '/dev/zero' is no regular file"));
  write_file(folder / "large.toml", std::string(50'000'000, '['));
  EXPECT_THAT(error_of([&] { read_model_file(folder / "large.toml"); }),
              AllOf(StartsWith("data: "), HasSubstr("has 50000000 bytes"), HasSubstr("is this the right file?")));
  write_file(folder / "empty.toml", "");
  EXPECT_THAT(error_of([&] { read_model_file(folder / "empty.toml"); }), HasSubstr("empty.toml:1: 'name' is missing"));
  write_file(folder / "r.toml", "[layout]\n'a(' = []\n");
  EXPECT_THAT(error_of([&] { read_rules_file(folder / "r.toml"); }), HasSubstr("r.toml:2: 'a(' is no regular"));
}

TEST(ShippedModels, PlanWithoutWarnings) {
  const DescribedModel model = read_model_file(LOCKSTEP_SOURCE_DIR "/tools/models/gpt-like.toml");
  EXPECT_EQ(model.variables.parameter_count(), 1'315'819'520);
  const auto adam = make_optimizer("adamw");
  const Plan plan = make_plan({.variables = model.variables,
                               .optimizer = *adam,
                               .settings = {.mesh = {{"data", 8}, {"model", 4}},
                                            .layout_rules = model.layouts.rules(),
                                            .zero = 1,
                                            .copies = Copies::per_rank,
                                            .workload = model.workload}});
  EXPECT_THAT(plan.warnings, IsEmpty());
  EXPECT_EQ(plan.at("decoder/23/mlp/down/weight").layout, (Layout{{"model", ""}}));
  EXPECT_EQ(plan.at("decoder/0/mlp/down/bias").layout, Layout::replicated(1));
  EXPECT_EQ(plan.at("adamw/iteration").layout, Layout{});
}

TEST(ShippedModels, AreReadAsTheDocumentationShowsThem) {
  const std::string page = read_file(LOCKSTEP_SOURCE_DIR "/docs/model-files.md");
  const std::string_view fence = "```toml\n";
  const size_t begin = page.find(fence) + fence.size();
  const DescribedModel model =
      read_model_text(std::string_view(page).substr(begin, page.find("```", begin) - begin), "m");
  EXPECT_EQ(model.variables.declarations().size(), 51u);
  EXPECT_EQ(model.layouts.rules().size(), 2u);
}

TEST(ShippedModels, ShowWhatTheFormatCan) {
  const DescribedModel model = read_model_file(LOCKSTEP_SOURCE_DIR "/tools/models/small-classifier.toml");
  const auto adam = make_optimizer("adam");
  const Plan plan = make_plan(
      {.variables = model.variables,
       .optimizer = *adam,
       .settings = {
           .mesh = {{"data", 2}, {"model", 2}}, .layout_rules = model.layouts.rules(), .workload = model.workload}});
  EXPECT_THAT(plan.pending, ElementsAre("vocabulary/weight"));
  EXPECT_EQ(plan.at("hidden/1/weight").layout, (Layout{{"model", ""}}));
  EXPECT_EQ(plan.at("input/weight").layout, (Layout{{"", "model"}}));
  EXPECT_TRUE(plan.at("temperature").in_gradient_sync);
  EXPECT_THAT(plan.warnings, ElementsAre(HasSubstr("vocabulary/weight")));
}

}  // namespace
}  // namespace lockstep
