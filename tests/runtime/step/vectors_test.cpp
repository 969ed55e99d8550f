// SPDX-License-Identifier: Apache-2.0
// Keras' numbers through whole training steps on several ranks: a model whose gradients are those of the vector, and
// everything between them and the parameters - sums, clipping, groups, averages, accumulation, loss scaling.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "collectives/host/thread_ranks.h"
#include "runtime/ops/ops.h"
#include "runtime/plan/planner.h"
#include "runtime/state/ledger.h"
#include "runtime/step/train_step.h"
#include "runtime/variables/parameter_groups.h"
#include "tests/support/batch_parts.h"
#include "tests/support/optimizer_vectors.h"

namespace lockstep {
namespace {

using namespace vectors;

struct TestVariable {
  std::string name;
  Shape shape;
  std::vector<float> initial;
  std::vector<std::vector<float>> gradients;  // by step
};

struct Case {
  std::vector<TestVariable> variables;
  OptimizerChoice choice;
  ClipOptions clip = {};
  int64_t accumulation = 1;
  size_t steps() const { return variables[0].gradients.size(); }
};

using Values = std::map<std::string, std::vector<float>>;

struct Outcome {
  std::vector<std::string> ledger;
  std::vector<Values> after_step;  // of all f32 variables, slots too
};

constexpr int kPartsOfACase =
    4;  // of a sample each, or of one for each micro-batch: gradients of a quarter add up exactly

// The sum over variables of w . g for every sample: the gradient of w is g.
Tensor loss_of(Context& context, const std::vector<TestVariable>& variables, const std::vector<Variable>& declared,
               size_t step, int64_t samples) {
  std::optional<Tensor> loss;
  for (size_t v = 0; v < variables.size(); ++v) {
    const std::vector<float>& g = variables[v].gradients[step];
    if (g.empty()) continue;  // no op leads from it to the loss
    const auto n = int64_t(g.size());
    Tensor inputs = context.empty({samples, n});
    for (int64_t i = 0; i < samples * n; ++i) data<float>(View(inputs))[i] = g[size_t(i % n)];
    Tensor term =
        reshape(context, matmul(context, inputs, reshape(context, context.value(declared[v]), {n, 1})), {samples});
    loss = loss ? add(context, *loss, term) : term;
  }
  return loss ? *loss : context.empty({samples});
}

void write(const VariableStore& store, const PlannedVariable& variable, const std::vector<float>& values) {
  std::ranges::copy(values, data<float>(store.memory().view(variable)));
}

// First values of variables, and of slots that begin as copies of them.
void write_initial(const VariableStore& store, const OptimizerSet& optimizer, const Case& test) {
  for (const TestVariable& variable : test.variables) write(store, store.plan().at(variable.name), variable.initial);
  for (const PlannedVariable& variable : store.plan().variables) {
    if (variable.role != Role::slot) continue;
    const std::string& path = store.plan().variables[size_t(variable.parameter)].path;
    if (!optimizer.slot(optimizer.group_of(path), variable.slot).starts_as_parameter) continue;
    write(store, variable, std::ranges::find(test.variables, path, &TestVariable::name)->initial);
  }
}

Values values_of(const VariableStore& store) {
  Values values;
  for (const PlannedVariable& variable : store.plan().variables) {
    if (variable.dtype != DType::f32) continue;
    const float* first = data<float>(ConstView(store.memory().view(variable)));
    values[variable.path] = {first, first + variable.shape.size()};
  }
  return values;
}

Outcome run_on(int ranks, const Case& test) {
  VariableTable variables;
  std::vector<Variable> declared;
  for (const TestVariable& variable : test.variables)
    declared.push_back(variables.parameter(variable.name, variable.shape, Initializer::constant(0)));
  const OptimizerSet optimizer = make_optimizer_set(variables, test.choice);
  const Plan plan = make_plan(
      {.variables = variables,
       .optimizer = optimizer,
       .settings = {.mesh = {{"data", ranks}}, .virtual_ranks = kPartsOfACase, .accumulation = test.accumulation}});
  Outcome run;
  run_thread_ranks({.ranks = ranks, .node_of = {}}, [&](Communicator& communicator) {
    Stream stream = Stream::cpu();
    Pool pool(stream.device());
    VariableStore store(plan, variables, optimizer, communicator, pool, 1);
    if (communicator.rank() == 0) write_initial(store, optimizer, test);
    communicator.barrier();
    size_t now = 0;
    const Forward forward = [&](Context& context, const Batch& batch) {
      return Results{loss_of(context, test.variables, declared, now, batch.samples())};
    };
    TrainStep step(communicator, store, optimizer, forward, stream, pool, 1, {.clip = test.clip});
    const std::vector<float> inputs(size_t(test.accumulation), 0.0f);
    const std::vector<int32_t> labels(size_t(test.accumulation), 0);
    const std::vector<int64_t> ids(size_t(test.accumulation), 0);
    const Shape samples{test.accumulation};
    std::vector<BatchPart> leaves;
    for (int leaf = step.first_part(); leaf < step.last_part(); ++leaf)
      leaves.push_back(labelled_part(leaf, {inputs.data(), DType::f32, DeviceKind::cpu, samples},
                                     {labels.data(), DType::i32, DeviceKind::cpu, samples},
                                     {ids.data(), DType::i64, DeviceKind::cpu, samples}));
    for (; now < test.steps(); ++now) {
      const StepReport report = step.run({int64_t(now), kPartsOfACase * test.accumulation, leaves});
      if (communicator.rank() != 0) continue;
      run.ledger.push_back(ledger_line(int64_t(now), report.loss, store, 0));
      run.after_step.push_back(values_of(store));
    }
    communicator.barrier();
  });
  return run;
}

// The run of one rank, after several have taken the same losses and bits.
Outcome run_on_any(const std::string& id, const Case& test) {
  Outcome one = run_on(1, test);
  for (const int ranks : {2, 4}) EXPECT_EQ(run_on(ranks, test).ledger, one.ledger) << id << " on " << ranks << " ranks";
  return one;
}

// Settings that are not an optimizer's, and how they are asked for here.
void read_settings(const json& settings, Case& test) {
  for (const auto& [key, value] : settings.items()) {
    if (key == "clipvalue")
      test.clip.clipvalue = value;
    else if (key == "gradient_accumulation_steps")
      test.accumulation = value;
    else if (key == "use_ema")
      test.choice.average = {.momentum = settings.at("ema_momentum"),
                             .overwrite_every = settings.value("ema_overwrite_frequency", 0)};
    else if (!key.starts_with("ema_"))
      test.choice.options[key] = value.is_boolean() ? double(value.get<bool>()) : value.get<double>();
  }
}

Case case_of(const json& vector) {
  Case test;
  test.choice.name = optimizer_of(vector);
  read_settings((vector.contains("inner") ? vector.at("inner") : vector).at("settings"), test);
  float factor = 1;
  if (vector.contains("num_replicas")) factor = vector.at("num_replicas");
  if (vector.contains("inner")) {
    test.choice.scaling = {.initial = vector.at("settings").at("initial_scale"),
                           .growth_steps = vector.at("settings").at("dynamic_growth_steps")};
    factor = 1 / float(test.choice.scaling->initial);  // the vector's gradients are those of the scaled loss
  }
  for (size_t v = 0; v < vector.at("variables").size(); ++v) {
    const json& described = vector.at("variables").at(v);
    TestVariable variable{str("v", v), shape_of(described.at("initial")), floats(described.at("initial")), {}};
    const bool replicas = vector.contains("per_replica_gradients_per_step");
    for (const json& step : vector.at(replicas ? "per_replica_gradients_per_step" : "gradients_per_step")) {
      variable.gradients.push_back(floats(replicas ? step : step.at(v)));
      for (float& g : variable.gradients.back()) g *= factor;
    }
    if (described.value("excluded_from_weight_decay", false))
      test.choice.rules.push_back(parse_group_rule(variable.name + " => weight_decay=0"));
    test.variables.push_back(std::move(variable));
  }
  // One step of ours is as many applies of Keras; the gradients of all of them are equal in the vectors.
  for (TestVariable& variable : test.variables)
    variable.gradients.resize(variable.gradients.size() / size_t(test.accumulation));
  return test;
}

int compare(const json& vector, const Case& test, const Outcome& run) {
  const std::string id = vector.at("id");
  int compared = 0;
  const auto look = [&](const char* field, const std::string& slot, double absolute, double relative) {
    if (!vector.contains(field)) return;
    for (const auto& [key, expected] : vector.at(field).items()) {
      const size_t applies = std::stoul(key), each = size_t(test.accumulation);
      if (applies % each != 0 || applies / each > run.after_step.size()) continue;
      for (size_t v = 0; v < test.variables.size(); ++v) {
        // A vector with one variable may leave the list of variables out.
        const json& wanted = expected.at(0).is_array() ? expected.at(v) : expected;
        expect_close(run.after_step[applies / each - 1].at(test.variables[v].name + slot), wanted, absolute, relative,
                     id + " " + field + " " + key);
        ++compared;
      }
    }
  };
  look("expected_after_step", "", vector.value("atol", 0.0), vector.value("rtol", 0.0));
  look("ref_float64_after_step", "", kReferenceTolerance, kReferenceTolerance);
  look("expected_average_after_step", "/" + test.choice.name + "/average", 1e-6, 1e-6);
  return compared;
}

bool is_known(const std::string& optimizer) {
  const auto names = optimizer_names();
  return std::ranges::find(names, optimizer) != names.end();
}

TEST(VectorsOnRanks, OfOptimizersAgreeWithKerasAndWithTheReferenceInDouble) {
  const std::set<std::string> kinds = {"optimizer_steps", "own_reference", "two_replica_sum", "muon"};
  std::set<std::string> covered;
  for (const json& vector : read()) {
    const bool steps = kinds.contains(vector.at("kind")) || vector.at("id") == "loss_scale/finite_step";
    if (!steps || !vector.contains("variables") || !is_known(optimizer_of(vector))) continue;
    if (!vector.contains("gradients_per_step") && !vector.contains("per_replica_gradients_per_step")) continue;
    const Case test = case_of(vector);
    EXPECT_GT(compare(vector, test, run_on_any(vector.at("id"), test)), 0)
        << vector.at("id") << " was run without a comparison";
    covered.insert(vector.at("id"));
  }
  for (const char* id : {"base/ema_sgd_overwrite3", "base/gradient_accumulation3", "own/adamw_excl",
                         "own/adam_clip_then_decay", "loss_scale/finite_step", "dist_tf/single_step"})
    EXPECT_TRUE(covered.contains(id)) << id;
  EXPECT_GE(covered.size(), 28u);
}

const json& named(const json& all, const std::string& id) {
  return *std::ranges::find_if(all, [&](const json& v) { return v.at("id") == id; });
}

TEST(VectorsOnRanks, AverageAsKerasDoes) {
  const json all = read();
  const json& vector = named(all, "adam/ema");
  const Outcome run = run_on_any("adam/ema", case_of(vector));
  const json& reference = vector.at("ref_float64");
  for (size_t step = 0; step < 2; ++step)
    expect_close(run.after_step[step].at("v0"), reference.at("plain_adam").at(step), 1e-6, 1e-6, "adam/ema");
  expect_close(run.after_step[1].at("v0/adam/average"), reference.at("average_after_step2"), 1e-6, 1e-6, "average");
}

TEST(VectorsOnRanks, ClipAsKerasDoes) {
  const json all = read();
  for (const std::string id : {"base/clipnorm", "base/global_clipnorm"}) {
    const json& vector = named(all, id);
    Case test{.variables = {{"v0", {2}, {0, 0}, {floats(vector.at("gradients").at(0))}}},
              .choice = {.name = "sgd", .options = {{"learning_rate", 1}}}};
    (id == "base/clipnorm" ? test.clip.clipnorm : test.clip.global_clipnorm) = 1;
    std::vector<float> moved = run_on_any(id, test).after_step[0].at("v0");
    for (float& w : moved) w = -w;
    expect_close(moved, vector.at("expected").at(0), 1e-6, 1e-6, id);
  }
}

// Fresh optimizers in turn, each on some of the variables, one step of zero gradients each.
TEST(VectorsOnRanks, DecayAsKerasDoesAndLeaveOutWhatIsExcluded) {
  int sequences = 0;
  for (const json& vector : read()) {
    if (vector.at("kind") != "weight_decay_sequence" || !is_known(optimizer_of(vector))) continue;
    ++sequences;
    Values values;
    for (const json& variable : vector.at("variables")) values[variable.at("name")] = floats(variable.at("initial"));
    for (const json& apply : vector.at("applies")) {
      Case test{.variables = {}, .choice = {.name = optimizer_of(vector)}};
      read_settings(vector.at("settings"), test);
      for (const std::string name : apply.at("vars")) test.variables.push_back({name, Shape{}, values.at(name), {{0}}});
      const json& exclude = apply.at("exclude");
      for (const char* key : {"var_names", "var_list"})
        if (exclude.is_object() && exclude.contains(key))
          for (const std::string name : exclude.at(key))
            test.choice.rules.push_back(parse_group_rule(name + " => weight_decay=0"));
      const Outcome run = run_on_any(vector.at("id"), test);
      for (const TestVariable& variable : test.variables) values[variable.name] = run.after_step[0].at(variable.name);
    }
    for (const auto& [name, expected] : vector.at("expected_final").items())
      expect_close(values.at(name), expected, 1.5e-6, 0, vector.at("id").get<std::string>() + " " + name);
  }
  EXPECT_GE(sequences, 6);
}

// What is overwritten is not unscaled, clipped or decayed, and the rest is.
TEST(VectorsOnRanks, OverwriteAsKerasDoes) {
  const json all = read();
  const json& vector = named(all, "base/overwrite_with_gradient");
  Case test = case_of(vector);
  test.choice.rules.push_back(parse_group_rule("v0 => overwrite"));
  EXPECT_EQ(compare(vector, test, run_on_any("base/overwrite_with_gradient", test)), 2);

  const json& scaled = named(all, "loss_scale/overwrite_not_unscaled");
  Case raw{.variables = {{"v0", {4}, {1, 2, 3, 4}, {floats(scaled.at("gradients_per_step").at(0))}},
                         {"v1", {1}, {0}, {{1}}}},
           .choice = {.name = "sgd",
                      .options = {{"learning_rate", 0.5}, {"weight_decay", 0.5}},
                      .rules = {parse_group_rule("v0 => overwrite")},
                      .scaling = LossScaling{.initial = 32768}},
           .clip = {.clipvalue = 1e-3}};
  for (float& g : raw.variables[0].gradients[0]) g /= 32768;  // of the scaled loss it is the vector's
  const Outcome outcome = run_on_any("loss_scale/overwrite_not_unscaled", raw);
  expect_close(outcome.after_step[0].at("v0"), scaled.at("expected_after_step").at("1").at(0), 1e-6, 1e-6, "raw");
  EXPECT_FLOAT_EQ(outcome.after_step[0].at("v1")[0], -0.5f * 1e-3f);
}

// A variable without a gradient stays, and a step without any is an error.
TEST(VectorsOnRanks, TakeVariablesWithoutGradientsAsKerasDoes) {
  Case test{.variables = {{"v", {2, 2}, {3, 4, 5, 6}, {{}}}, {"v2", {2, 2}, {3, 4, 5, 6}, {{1, 1, 1, 1}}}},
            .choice = {.name = "sgd", .options = {{"learning_rate", 1}}}};
  const Outcome run = run_on_any("base/empty_gradients", test);
  EXPECT_EQ(run.after_step[0].at("v"), (std::vector<float>{3, 4, 5, 6}));
  EXPECT_EQ(run.after_step[0].at("v2"), (std::vector<float>{2, 3, 4, 5}));
  test.variables[1].gradients = {{}};
  for (const int ranks : {1, 2, 4}) {
    try {
      run_on(ranks, test);
      FAIL() << "expected an error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::tape);
    }
  }
}

// The constraint of the vector is that of numbers that are not negative.
TEST(VectorsOnRanks, KeepWithinBoundsAsKerasDoes) {
  std::vector<float> initial(100);
  std::mt19937 random(1);
  for (float& x : initial) x = float(random()) * 0x1p-32f - 1;
  const Case test{
      .variables = {{"v", {100}, initial, {std::vector<float>(100)}}, {"other", {100}, initial, {initial}}},
      .choice = {.name = "sgd", .options = {{"learning_rate", 1e-4}}, .rules = {parse_group_rule("v => minimum=0")}}};
  const Outcome run = run_on_any("base/constraint_after_update", test);
  EXPECT_EQ(std::ranges::min(run.after_step[0].at("v")), 0);
  EXPECT_LT(std::ranges::min(run.after_step[0].at("other")), -0.5f) << "only what the rule says";
}

constexpr const char* kRoutes[] = {"^dense_1/.* => sgd(learning_rate=0.1)", "^dense_2/.* => sgd(learning_rate=1)"};

// Keras' MultiOptimizer: an optimizer for each pattern of paths. Its factor on the loss is the only one, whatever its
// optimizers were made with (multi/loss_scaling): here a run has one, and groups have none to set.
TEST(VectorsOnRanks, RouteAsKerasDoes) {
  const json all = read();
  const std::vector<float> ones = {1, 1};
  Case test{.variables = {{"dense_1/kernel", {1, 2}, {2, 2}, {ones}},
                          {"dense_2/kernel", {1, 2}, {3, 3}, {ones}},
                          {"dense_3/kernel", {1, 2}, {4, 4}, {ones}}},
            .choice = {.name = "sgd", .options = {{"learning_rate", 0}}}};
  for (const char* rule : kRoutes) test.choice.rules.push_back(parse_group_rule(rule));
  const json& expected = named(all, "multi/stateful_apply").at("expected");
  for (const bool scaled : {false, true}) {
    if (scaled) test.choice.scaling = LossScaling{.initial = 8};
    const Outcome run = run_on_any("multi/stateful_apply", test);
    for (size_t v = 0; v < 3; ++v)
      expect_close(run.after_step[0].at(test.variables[v].name), expected.at(v), 1e-6, 1e-6, test.variables[v].name);
  }
  EXPECT_THROW(run_on(1, {.variables = test.variables,
                          .choice = {.name = "sgd", .rules = {parse_group_rule("dense_1/.* => loss_scale=4")}}}),
               Error);
}

}  // namespace
}  // namespace lockstep
