// SPDX-License-Identifier: Apache-2.0
// Groups of parameters by rule, running averages and loss scaling: each means what it says, on any number of ranks.
#include "runtime/variables/parameter_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/toy_training.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using toy::Outcome;
using toy::Setting;
using toy::train;

const std::vector<std::string> kMixed = {".*/bias => sgd(learning_rate=0.05, momentum=0.9)",
                                         "last/weight => weight_decay=0.1, rate_factor=0.5"};

TEST(ParameterGroups, TakeTheSameBitsOnAnyNumberOfRanks) {
  for (const ClipOptions& clip : {ClipOptions{}, ClipOptions{.clipnorm = 0.05}, ClipOptions{.clipvalue = 0.01}}) {
    const Setting one{.groups = kMixed, .clip = clip};
    const Outcome expected = train(one);
    for (const int ranks : {2, 3, 5}) {
      Setting several = one;
      several.ranks = ranks;
      EXPECT_EQ(train(several).ledger, expected.ledger) << ranks;
    }
    Setting wide = one;
    wide.ranks = 3;
    wide.bucket_bytes = 1 << 20;
    EXPECT_EQ(train(wide).ledger, expected.ledger);
    wide.node_of = {0, 0, 1};
    EXPECT_EQ(train(wide).ledger, expected.ledger);
  }
}

// Where one tensor alone is updated whole, one rank of a node does it and the others have nothing of it.
TEST(ParameterGroups, LeaveASingleTensorToOneRank) {
  for (const char* optimizer : {"lamb", "adafactor"}) {
    Setting setting{.optimizer = optimizer, .groups = {".*/bias|last/weight => sgd(learning_rate=0.1)"}};
    const Outcome expected = train(setting);
    for (const int ranks : {2, 3}) {
      setting.ranks = ranks;
      EXPECT_EQ(train(setting).ledger, expected.ledger) << optimizer << " on " << ranks;
    }
  }
}

TEST(ParameterGroups, WithTheSettingsOfTheRunChangeNothing) {
  const Outcome plain = train({.ranks = 2});
  EXPECT_EQ(train({.ranks = 2, .groups = {".*/bias => weight_decay=0"}}).ledger, plain.ledger);
  EXPECT_EQ(
      train({.ranks = 2, .groups = {"first/.* => rate_factor=1", "last/bias => adam(learning_rate=0.01)"}}).ledger,
      plain.ledger);
}

TEST(ParameterGroups, MultiplyTheRateOrHaveTheirOwn) {
  const Outcome half = train({.optimizer = "sgd", .learning_rate = 0.25});
  EXPECT_EQ(train({.optimizer = "sgd", .learning_rate = 0.5, .groups = {".* => rate_factor=0.5"}}).losses, half.losses);
  EXPECT_EQ(train({.optimizer = "sgd", .learning_rate = 0.5, .groups = {".* => learning_rate=0.25"}}).losses,
            half.losses);
  EXPECT_EQ(train({.optimizer = "adam", .groups = {".* => sgd(learning_rate=0.25)"}}).losses, half.losses);

  const Schedule falling = make_schedule("exponential(steps=10, decay_rate=0.5)", 0.5);
  const Setting scheduled{.optimizer = "sgd", .learning_rate = 0.5, .schedule = &falling};
  Setting own = scheduled, factor = scheduled;
  own.groups = {".* => learning_rate=0.25"};
  EXPECT_EQ(train(own).losses, half.losses) << "no schedule changes a rate of one's own";
  factor.groups = {".* => rate_factor=0.5"};
  const Schedule half_as_high = make_schedule("exponential(steps=10, decay_rate=0.5)", 0.25);
  EXPECT_EQ(train(factor).losses, train({.optimizer = "sgd", .learning_rate = 0.25, .schedule = &half_as_high}).losses);
}

TEST(ParameterGroups, DecayTheWeightsOfTheirOwnVariablesOnly) {
  // At rate 1 and with gradients clipped to next to nothing, a step is the decay.
  const ClipOptions nothing{.global_clipnorm = 1e-30};
  const auto weights = [&](std::vector<std::string> groups) {
    return train({.steps = 1, .optimizer = "sgd", .learning_rate = 1, .groups = std::move(groups), .clip = nothing})
        .values;
  };
  const auto before = weights({}), after = weights({"first/weight => weight_decay=0.5"});
  for (size_t i = 0; i < before.at("first/weight").size(); ++i)
    EXPECT_EQ(after.at("first/weight")[i], before.at("first/weight")[i] / 2) << i;
  EXPECT_EQ(after.at("last/weight"), before.at("last/weight"));
}

TEST(ParameterGroups, FreezeWhatTheyMatch) {
  const Outcome none = train({.steps = 0}), some = train({.ranks = 2, .groups = {"first/.* => freeze"}});
  EXPECT_EQ(some.values.at("first/weight"), none.values.at("first/weight"));
  EXPECT_NE(some.values.at("last/weight"), none.values.at("last/weight"));
  EXPECT_FALSE(some.values.contains("first/weight/adam/momentum")) << "no state, no gradient";
}

TEST(ParameterGroups, KeepScalarsOfTheirOwn) {
  const Outcome run = train({.optimizer = "nadam", .groups = {"last/.* => nadam(beta_1=0.5)"}});
  ASSERT_TRUE(run.values.contains("nadam/group_1/u_product"));
  EXPECT_LT(run.values.at("nadam/group_1/u_product")[0], run.values.at("nadam/u_product")[0]);
}

TEST(ParameterGroups, StartSlotsAsTheirOwnOptimizerDoes) {
  const Outcome run = train({.steps = 0, .groups = {"last/.* => adagrad(initial_accumulator_value=0.5)"}});
  EXPECT_EQ(run.values.at("last/bias/adam/accumulator")[0], 0.5);
  EXPECT_EQ(run.values.at("first/bias/adam/momentum")[0], 0);
}

// The names of the optimizers that variables of these shapes and paths get.
std::map<std::string, std::string> optimizers_of(const OptimizerChoice& choice) {
  VariableTable variables;
  for (const char* path : {"Embedding_2/table", "token_embeddings/table", "dense/weight", "logits/weight"})
    variables.parameter(path, {8, 4}, Initializer::constant(1));
  variables.parameter("dense/bias", {4}, Initializer::constant(1));
  const OptimizerSet set = make_optimizer_set(variables, choice);
  std::map<std::string, std::string> names;
  for (const VariableDeclaration& variable : variables.declarations())
    names[variable.path] = set.group(set.group_of(variable.path)).optimizer->name();
  return names;
}

TEST(ParameterGroups, LeaveToMuonsAdamWhatKerasDoes) {
  const std::map<std::string, std::string> expected = {{"Embedding_2/table", "adam"},
                                                       {"token_embeddings/table", "adam"},
                                                       {"dense/weight", "muon"},
                                                       {"logits/weight", "muon"},
                                                       {"dense/bias", "adam"}};
  EXPECT_EQ(optimizers_of({.name = "muon"}), expected);
}

TEST(ParameterGroups, ExcludeLayersFromMuonByRule) {
  const OptimizerChoice choice{.name = "muon",
                               .options = {{"learning_rate", 0.5}, {"adam_lr_ratio", 0.25}, {"adam_beta_1", 0.75}},
                               .rules = {parse_group_rule("logits/.* => adam_only=1")}};
  std::map<std::string, std::string> names = optimizers_of(choice);
  EXPECT_EQ(names.at("logits/weight"), "adam");
  EXPECT_EQ(names.at("dense/weight"), "muon");
  // It is the run's own Adam: its options, and its share of the run's rate.
  VariableTable variables;
  variables.parameter("logits/weight", {8, 4}, Initializer::constant(1));
  const OptimizerSet set = make_optimizer_set(variables, choice);
  const int32_t group = set.group_of("logits/weight");
  EXPECT_EQ(set.rate_of(group, 0.5), 0.125);
  EXPECT_THAT(set.description(), HasSubstr("beta_1=0.75"));
  EXPECT_EQ(set.group(group).optimizer->hyperparameters()[3].value, 0.75) << "beta_1";
  EXPECT_THROW(optimizers_of({.name = "muon", .options = {{"adam_only", 1}}}), Error);
  EXPECT_THROW(optimizers_of({.name = "muon", .rules = {parse_group_rule("logits/.* => adam_only=2")}}), Error);
  EXPECT_THROW(optimizers_of({.name = "adam", .rules = {parse_group_rule("logits/.* => adam_only=1")}}), Error);
}

// A gradient that becomes the value is the mean over the batch, and micro-batches are parts of it.
TEST(ParameterGroups, OverwriteByTheMeanOfMicroBatches) {
  // At rate 0 all other variables stay, so that every step has the gradients of the first.
  const auto overwritten = [](int64_t accumulation) {
    return train({.virtual_ranks = 4,
                  .plan = {.accumulation = accumulation},
                  .steps = 1,
                  .learning_rate = 0,
                  .groups = {"last/bias => overwrite"}})
        .values.at("last/bias");
  };
  const std::vector<double> whole = overwritten(1);
  EXPECT_GT(std::abs(whole[0]), 1e-3);
  for (const int64_t accumulation : {2, 4}) {
    const std::vector<double> parts = overwritten(accumulation);
    for (size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(parts[i], whole[i], 1e-7) << accumulation << ", " << i;
  }
}

std::string complaint(const std::vector<std::string>& groups, ErrorCode code) {
  try {
    train({.groups = groups});
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "no complaint";
}

TEST(ParameterGroups, RefuseWhatCannotBeMeant) {
  EXPECT_THAT(complaint({"first/wieght => freeze"}, ErrorCode::plan),
              AllOf(HasSubstr("'first/wieght => freeze' matches no parameter"), HasSubstr("first/weight")));
  EXPECT_THAT(complaint({"first/.* => freeze", ".*/bias => weight_decay=0"}, ErrorCode::plan),
              HasSubstr("variable first/bias matches 2 group rules"));
  EXPECT_THAT(complaint({".* => freeze"}, ErrorCode::plan), HasSubstr("nothing to train"));
  EXPECT_THAT(complaint({"( => freeze"}, ErrorCode::plan), HasSubstr("is no regular expression"));
  for (const char* text : {"first/.*", "=> freeze", "first/.* =>", ""})
    EXPECT_THAT(complaint({text}, ErrorCode::usage), HasSubstr("expected PATTERN => SETTINGS")) << text;
  EXPECT_THAT(complaint({".* => weight_decya=1"}, ErrorCode::usage), HasSubstr("weight_decay"));
  EXPECT_THAT(complaint({".* => weight_decay=nan"}, ErrorCode::usage), HasSubstr("weight_decay"));
  EXPECT_THAT(complaint({".* => adma(beta_1=0.5)"}, ErrorCode::usage), HasSubstr("did you mean 'adam'"));
  EXPECT_THAT(complaint({".* => rate_factor=-1"}, ErrorCode::usage), HasSubstr("rate_factor"));
  EXPECT_THAT(complaint({".* => rate_factor=inf"}, ErrorCode::usage), HasSubstr("rate_factor"));
  EXPECT_THAT(complaint({".* => sgd(learning_rate=1, rate_factor=1)"}, ErrorCode::usage), HasSubstr("keep one"));
  EXPECT_THAT(complaint({".* => overwrite(beta_1=1)"}, ErrorCode::usage), HasSubstr("without settings"));
  EXPECT_THAT(complaint({".* => betas=[1, 2]"}, ErrorCode::usage), HasSubstr("settings are numbers"));
}

TEST(MovingAverage, FollowsTheWeights) {
  const Setting setting{.ranks = 2, .optimizer = "sgd", .learning_rate = 0.5};
  std::vector<std::vector<double>> weights;
  for (int64_t steps = 1; steps <= 3; ++steps) {
    Setting run = setting;
    run.steps = steps;
    weights.push_back(train(run).values.at("first/weight"));
  }
  Setting averaged = setting;
  averaged.steps = 3;
  averaged.average = MovingAverage{.momentum = 0.9};
  const Outcome outcome = train(averaged);
  EXPECT_EQ(outcome.values.at("first/weight"), weights[2]) << "averaging changes nothing";
  const std::vector<double>& average = outcome.values.at("first/weight/sgd/average");
  for (size_t i = 0; i < average.size(); ++i)
    EXPECT_NEAR(average[i], 0.9 * (0.9 * weights[0][i] + 0.1 * weights[1][i]) + 0.1 * weights[2][i], 1e-7) << i;
}

TEST(MovingAverage, TakesTheWeightsOver) {
  const Setting setting{.steps = 6, .average = MovingAverage{.momentum = 0.5, .overwrite_every = 3}};
  const Outcome outcome = train(setting);
  EXPECT_EQ(outcome.values.at("last/bias"), outcome.values.at("last/bias/adam/average"));
  for (const int ranks : {2, 3, 5}) {
    Setting several = setting;
    several.ranks = ranks;
    several.groups = {};
    EXPECT_EQ(train(several).ledger, outcome.ledger) << ranks;
  }
  Setting later = setting;
  later.steps = 5;
  const Outcome between = train(later);
  EXPECT_NE(between.values.at("last/bias"), between.values.at("last/bias/adam/average"));
}

TEST(MovingAverage, IsWhatTheWeightsAreInTheEndIfAsked) {
  Setting setting{.ranks = 3, .average = MovingAverage{.momentum = 0.9}};
  const Outcome without = train(setting);
  setting.take_averages = true;
  const Outcome with = train(setting);
  for (const char* path : {"first/weight", "first/bias", "last/weight", "last/bias"}) {
    EXPECT_EQ(with.values.at(path), without.values.at(std::string(path) + "/adam/average")) << path;
    EXPECT_NE(with.values.at(path), without.values.at(path)) << path;
  }
}

TEST(MovingAverage, RefusesWhatIsNoMomentum) {
  for (const double momentum : {-0.1, 1.1, double(NAN)})
    EXPECT_THROW(train({.average = MovingAverage{.momentum = momentum}}), Error) << momentum;
  EXPECT_THROW(train({.average = MovingAverage{.overwrite_every = -1}}), Error);
}

TEST(Bounds, HoldAfterEveryStepOnAnyNumberOfRanks) {
  for (const DType weights : {DType::f32, DType::bf16})
    for (const bool stochastic : {false, true}) {
      Setting setting{.plan = {.stochastic_rounding = stochastic && weights == DType::bf16},
                      .learning_rate = 0.1,
                      .weights = weights,
                      .groups = {"first/weight => minimum=-0.125, maximum=0.25", "last/weight => lamb(minimum=0)"},
                      .average = MovingAverage{.momentum = 0.5, .overwrite_every = 4}};
      const Outcome one = train(setting);
      const auto [low, high] = std::ranges::minmax(one.values.at("first/weight"));
      EXPECT_EQ(low, -0.125);
      EXPECT_EQ(high, 0.25);
      EXPECT_EQ(std::ranges::min(one.values.at("last/weight")), 0);
      EXPECT_LT(std::ranges::min(one.values.at("first/bias")), 0);
      for (const int ranks : {2, 3, 5}) {
        setting.ranks = ranks;
        EXPECT_EQ(train(setting).ledger, one.ledger) << ranks;
      }
    }
}

TEST(Bounds, RefuseWhatIsNone) {
  EXPECT_THROW(parse_group_rule(".* => minimum=1, maximum=0"), Error);
  EXPECT_THROW(parse_group_rule(".* => minimum=nan"), Error);
  EXPECT_THROW(parse_group_rule(".* => maximum=1e300"), Error);
  EXPECT_THROW(train({.groups = {".* => overwrite(minimum=0)"}}), Error);
}

TEST(LossScaling, ByPowersOfTwoChangesNoBit) {
  for (const ClipOptions& clip : {ClipOptions{}, ClipOptions{.clipnorm = 0.05}, ClipOptions{.global_clipnorm = 0.1},
                                  ClipOptions{.clipvalue = 0.01}})
    EXPECT_EQ(train({.ranks = 3, .scaling = LossScaling{}, .clip = clip}).losses, train({.clip = clip}).losses);
}

TEST(LossScaling, GrowsAfterStepsThatWereFinite) {
  // Keras' test_upscaling
  const std::vector<double> expected = {2, 4, 4, 8, 8, 16, 16, 32};
  for (size_t steps = 1; steps <= expected.size(); ++steps) {
    const Outcome run = train({.steps = int64_t(steps), .scaling = LossScaling{.initial = 2, .growth_steps = 2}});
    EXPECT_EQ(run.values.at("adam/loss_scale")[0], expected[steps - 1]) << steps;
    EXPECT_EQ(run.values.at("adam/finite_steps")[0], double(steps % 2)) << steps;
  }
}

TEST(LossScaling, SkipsAndShrinksWhereGradientsAreTooLarge) {
  const Setting setting{.steps = 12, .scaling = LossScaling{.initial = 0x1p126, .growth_steps = 1}};
  const Outcome one = train(setting);
  EXPECT_GT(one.last.skipped_sum, 0);
  EXPECT_LT(one.last.skipped_sum, 12);
  EXPECT_EQ(one.counters[0], 12 - one.last.skipped_sum) << "skipped steps do not count";
  EXPECT_EQ(one.values.at("adam/loss_scale")[0], std::ldexp(0x1p126, int(12 - 2 * one.last.skipped_sum)));
  Setting several = setting;
  several.ranks = 3;
  EXPECT_EQ(train(several).ledger, one.ledger);
}

TEST(LossScaling, RefusesWhatWouldRound) {
  for (const double initial : {0.0, -2.0, 3.0, 0x1p127, double(INFINITY), double(NAN)})
    EXPECT_THROW(train({.scaling = LossScaling{.initial = initial}}), Error) << initial;
  EXPECT_THROW(train({.scaling = LossScaling{.growth_steps = 0}}), Error);
}

}  // namespace
}  // namespace lockstep
