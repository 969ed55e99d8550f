// SPDX-License-Identifier: Apache-2.0
// Training on thread ranks: the same bits for any number of them, one counter, one decision.
#include "runtime/step/train_step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "collectives/host/thread_ranks.h"
#include "kernels/softmax.h"
#include "runtime/ops/ops.h"
#include "runtime/plan/planner.h"
#include "runtime/state/ledger.h"
#include "tests/support/toy_training.h"

namespace lockstep {
namespace {

using namespace toy;

TEST(TrainStep, TakesTheSameBitsOnAnyNumberOfRanks) {
  const Outcome one = train({.ranks = 1});
  ASSERT_EQ(one.ledger.size(), 20u);
  for (const int ranks : {2, 3, 4, 5, 6, 7, 8}) EXPECT_EQ(train({.ranks = ranks}).ledger, one.ledger) << ranks;
}

TEST(TrainStep, TakesTheSameBitsOnSeveralNodes) {
  const Outcome one = train({.ranks = 1});
  EXPECT_EQ(train({.ranks = 4, .node_of = {0, 0, 1, 1}}).ledger, one.ledger);
  EXPECT_EQ(train({.ranks = 5, .node_of = {0, 0, 0, 1, 1}}).ledger, one.ledger);
  EXPECT_EQ(train({.ranks = 3, .node_of = {0, 1, 2}}).ledger, one.ledger);
}

TEST(TrainStep, TakesTheSameBitsWithPartialBatches) {
  // 64 samples in batches of 24: every third batch has 16, and leaves of unequal size.
  const Outcome one = train({.ranks = 1, .batch = 24});
  for (const int ranks : {2, 3, 5, 8}) EXPECT_EQ(train({.ranks = ranks, .batch = 24}).ledger, one.ledger) << ranks;
  // Batches of 60 leave 4 samples for 8 leaves: some have none.
  const Outcome few = train({.ranks = 1, .batch = 60});
  for (const int ranks : {2, 3, 8}) EXPECT_EQ(train({.ranks = ranks, .batch = 60}).ledger, few.ledger) << ranks;
}

TEST(TrainStep, WeighsEverySampleAlikeHoweverTheBatchIsCut) {
  // Plain descent feels the size of a gradient, which Adam does not. Batches of 24 leave a partial one of 16.
  const Setting whole{.virtual_ranks = 1, .batch = 24, .optimizer = "sgd", .learning_rate = 0.2};
  Setting cut = whole;
  cut.ranks = 3;
  cut.virtual_ranks = 8;
  const std::vector<float> expected = train(whole).losses, actual = train(cut).losses;
  ASSERT_EQ(actual.size(), expected.size());
  EXPECT_LT(expected.back(), expected.front()) << "it learns";
  for (size_t s = 0; s < expected.size(); ++s) EXPECT_NEAR(actual[s], expected[s], 1e-4f) << "step " << s;
}

TEST(TrainStep, AccumulatesMicroBatchesWithOneSynchronisation) {
  for (const ReduceMode mode : {ReduceMode::tree, ReduceMode::fast}) {
    const Setting whole{.ranks = 2, .virtual_ranks = 2, .plan = {.reduce = mode}, .batch = 24};
    Setting cut = whole;
    cut.plan.accumulation = 5;  // 12 samples of a leaf: some micro-batches have 2, others 3; in partial batches 1 or 2
    const Outcome expected = train(whole), actual = train(cut);
    EXPECT_EQ(actual.trace, expected.trace) << "the same collectives of the same bytes";
    EXPECT_EQ(actual.gradient_bytes, expected.gradient_bytes);
    EXPECT_EQ(actual.counters, expected.counters) << "the counter counts updates";
    EXPECT_EQ(actual.last.sum_of_all_steps("correct"), expected.last.sum_of_all_steps("correct"));
    EXPECT_NE(actual.ledger, expected.ledger) << "micro-batches are added in an order of their own";
    for (size_t s = 0; s < expected.losses.size(); ++s)
      EXPECT_NEAR(actual.losses[s], expected.losses[s], 1e-5f) << "step " << s;
  }
}

TEST(TrainStep, TakesTheSameBitsOnAnyNumberOfRanksWhenItAccumulates) {
  // More micro-batches than samples of most leaves, too.
  for (const int64_t accumulation : {2, 3, 100}) {
    const Outcome one = train({.ranks = 1, .plan = {.accumulation = accumulation}, .batch = 24});
    for (const int ranks : {2, 3, 5})
      EXPECT_EQ(train({.ranks = ranks, .plan = {.accumulation = accumulation}, .batch = 24}).ledger, one.ledger)
          << ranks;
  }
}

// Leaves of 3 and 4 samples, of which ranks have 2, 2 and 3, and slices that begin in the middle of variables.
TEST(TrainStep, TakesTheSameBitsInAThousandStepsOfEveryOptimizer) {
  for (const std::string_view name : optimizer_names()) {
    Setting setting{.virtual_ranks = 7, .steps = 1000, .batch = 23, .optimizer = std::string(name)};
    setting.report_every_step = false;
    const Outcome one = train(setting);
    setting.ranks = 3;
    const Outcome three = train(setting);
    EXPECT_EQ(three.ledger, one.ledger) << name;
    EXPECT_EQ(three.values, one.values) << name;
    EXPECT_EQ(three.counters[2], 1000) << name;
  }
}

// Keras' test_gradient_accumulation: the mean over micro-batches is the gradient that every optimizer gets.
TEST(TrainStep, AccumulatesAlikeForEveryOptimizer) {
  for (const std::string_view name : optimizer_names()) {
    const Setting whole{.virtual_ranks = 1, .steps = 8, .optimizer = std::string(name)};
    Setting cut = whole;
    cut.plan.accumulation = 3;
    const std::vector<float> expected = train(whole).losses, actual = train(cut).losses;
    for (size_t s = 0; s < expected.size(); ++s) EXPECT_NEAR(actual[s], expected[s], 1e-4f) << name << " step " << s;
  }
}

TEST(TrainStep, TakesTheSameBitsForAnyThreadsAndBuckets) {
  const Outcome one = train({.ranks = 2});
  EXPECT_EQ(train({.ranks = 2, .threads = 3}).ledger, one.ledger);
  EXPECT_EQ(train({.ranks = 2, .bucket_bytes = 1}).ledger, one.ledger);
  EXPECT_EQ(train({.ranks = 2, .bucket_bytes = 1 << 20}).ledger, one.ledger);
}

TEST(TrainStep, GivesOtherBitsInFastModeWhichShowsThatTheLedgerSeesOrder) {
  const Outcome tree = train({.ranks = 2});
  const Outcome fast_two = train({.ranks = 2, .plan = {.reduce = ReduceMode::fast}});
  const Outcome fast_three = train({.ranks = 3, .plan = {.reduce = ReduceMode::fast}});
  EXPECT_NE(fast_two.ledger, tree.ledger);
  EXPECT_NE(fast_two.ledger, fast_three.ledger);
}

TEST(TrainStep, CountsOneStepPerUpdateOnEveryRank) {
  for (const int ranks : {1, 2, 4}) {
    const Outcome outcome = train({.ranks = ranks, .steps = 7, .bucket_bytes = 1});
    EXPECT_THAT(outcome.counters, testing::Each(7)) << ranks << " ranks";
    EXPECT_THAT(outcome.learning_rates, testing::Each(0.01)) << ranks << " ranks";
  }
}

TEST(TrainStep, TrainsWithEveryOptimizer) {
  for (const std::string_view name : optimizer_names()) {
    const std::string optimizer(name);
    EXPECT_EQ(train({.ranks = 3, .steps = 5, .optimizer = optimizer}).ledger,
              train({.ranks = 1, .steps = 5, .optimizer = optimizer}).ledger)
        << name;
  }
}

TEST(TrainStep, StopsEveryRankBeforeTheUpdateWhenTheLossIsNotFinite) {
  try {
    train({.ranks = 2, .poison = NAN});
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::numbers);
    EXPECT_THAT(error.what(), testing::HasSubstr("at step 4"));
    EXPECT_THAT(error.what(), testing::HasSubstr("learning rate"));
    EXPECT_THAT(error.what(),
                testing::ContainsRegex("the first op: linear at toy_training.h:[0-9]+ gave -?nan in element "
                                       "\\[0, 0\\] of \\[2, 16\\], in the forward pass of part 0, "
                                       "sample 0, by rank 0 "));
  }
}

TEST(TrainStep, NamesTheOpWhoseGradientOverflowsFirst) {
  for (const int ranks : {1, 3}) {
    const Outcome outcome = train({.ranks = ranks, .steps = 6, .poison = 1e30f});
    ASSERT_TRUE(outcome.skipped[4]) << "a sample overflows";
    EXPECT_THAT(outcome.origins[4],
                testing::ContainsRegex("the first op: [a-z_]+ at toy_training.h:[0-9]+ gave -?(inf|nan) "
                                       "in element .*, in the backward pass of part 0, sample"));
    EXPECT_EQ(outcome.origins[3], "");
    EXPECT_EQ(outcome.origins[5], "");
  }
  // A gradient that was spoiled on its way is finite when it is computed again.
  Setting spoiled{.ranks = 2, .steps = 4};
  spoiled.before_step = [](int64_t step, int rank, VariableStore&, TrainStep& taken) {
    if (step == 2 && rank == 1) taken.spoil_gradient("last/weight", 5);
  };
  const Outcome outcome = train(spoiled);
  EXPECT_THAT(outcome.skipped, testing::ElementsAre(false, false, true, false));
  EXPECT_EQ(outcome.not_finite[2], "last/weight");
  EXPECT_THAT(outcome.origins[2], testing::HasSubstr("finite by itself"));
}

// What tells two runs apart: parts are the same whoever computes them, and a change shows where it is.
TEST(TrainStep, RecordsWhatPartsCameTo) {
  const auto recorded = [](int ranks, bool spoil) {
    std::mutex mutex;
    std::vector<std::vector<PartFacts>> steps(3);
    Setting setting{.ranks = ranks, .steps = 3, .record_parts = true};
    setting.after_step = [&](int64_t step, TrainStep& taken) {
      const std::lock_guard lock(mutex);
      for (const PartFacts& facts : taken.part_facts()) steps[size_t(step)].push_back(facts);
    };
    setting.before_step = [&](int64_t step, int rank, VariableStore&, TrainStep& taken) {
      if (spoil && step == 1 && rank == 0) taken.spoil_gradient("first/bias", 2);
    };
    train(setting);
    for (std::vector<PartFacts>& parts : steps) std::ranges::sort(parts, {}, &PartFacts::part);
    return steps;
  };
  const auto one = recorded(1, false);
  ASSERT_EQ(one[2].size(), 8u);
  EXPECT_EQ(one[0][3].samples, (std::vector<int64_t>{6, 7}));
  EXPECT_EQ(one[0][3].gradients.size(), 4u);
  EXPECT_EQ(recorded(3, false), one);
  const auto spoiled = recorded(1, true);
  EXPECT_EQ(spoiled[0], one[0]);
  EXPECT_EQ(spoiled[1][1], one[1][1]);
  EXPECT_EQ(spoiled[1][0].loss, one[1][0].loss);
  for (size_t v = 0; v < 4; ++v) EXPECT_EQ(spoiled[1][0].gradients[v] == one[1][0].gradients[v], v != 1);
}

TEST(TrainStep, NamesTheOpWhenTheLossIsComputedFromFrozenValuesOnly) {
  VariableTable variables;
  variables.parameter("unused", {4}, Initializer::constant(1));
  const auto optimizer = make_optimizer("sgd");
  const Plan plan = make_plan({.variables = variables,
                               .optimizer = *optimizer,
                               .settings = {.mesh = {{"data", 2}}, .virtual_ranks = 2, .bucket_bytes = 1}});
  const Forward detached = [](Context& context, const Batch& batch) {
    const Tensor x = relu(context, batch["inputs"]);
    return Results{mean(context, x)};
  };
  const Samples samples;
  int complaints = 0;
  std::mutex mutex;
  EXPECT_THROW(run_thread_ranks(2,
                                [&](Communicator& communicator) {
                                  Stream stream = Stream::cpu();
                                  Pool pool({});
                                  VariableStore store(plan, variables, *optimizer, communicator, pool, 1);
                                  TrainStep step(communicator, store, *optimizer, detached, stream, pool, 1);
                                  const BatchPart leaf = samples.leaf(communicator.rank(), 0, 1);
                                  try {
                                    step.run({0, 2, {&leaf, 1}});
                                  } catch (const Error& error) {
                                    const std::lock_guard lock(mutex);
                                    complaints += std::string(error.what()).find("last op off the tape: mean") !=
                                                  std::string::npos;
                                    throw;
                                  }
                                }),
               Error);
  EXPECT_EQ(complaints, 2) << "every rank knows at once";
}

// y = temperature * loss on leaves of one sample: a trainable scalar must move alike on all ranks, and as on one rank.
TEST(TrainStep, ReducesATrainableScalar) {
  VariableTable variables;
  const Variable temperature = variables.parameter("temperature", {}, Initializer::constant(0.5));
  const auto optimizer = make_optimizer("adam", {{"learning_rate", 0.1}});
  const Samples samples;
  const Forward forward = [&](Context& context, const Batch& batch) {
    const Tensor scale = reshape(context, context.value(temperature), {1});
    const Tensor x = reshape(context, mean(context, batch["inputs"]), {1});
    const Tensor y = multiply(context, scale, x);
    return Results{multiply(context, y, y), {{"y", y}}};
  };
  const auto final_value = [&](int ranks, int64_t steps = 5) {
    const Plan plan = make_plan(
        {.variables = variables, .optimizer = *optimizer, .settings = {.mesh = {{"data", ranks}}, .virtual_ranks = 4}});
    std::vector<float> values(static_cast<size_t>(ranks));
    run_thread_ranks(ranks, [&](Communicator& communicator) {
      Stream stream = Stream::cpu();
      Pool pool({});
      VariableStore store(plan, variables, *optimizer, communicator, pool, 1);
      TrainStep step(communicator, store, *optimizer, forward, stream, pool, 1);
      for (int64_t s = 0; s < steps; ++s) {
        std::vector<BatchPart> own;
        for (int leaf = step.first_part(); leaf < step.last_part(); ++leaf)
          own.push_back(samples.leaf(leaf, leaf, leaf + 1));
        (void)step.run({s, 4, own});
      }
      values[size_t(communicator.rank())] = *data<float>(ConstView(store.values()[0]));
      communicator.barrier();
    });
    return values;
  };
  const float one = final_value(1)[0];
  EXPECT_NE(one, 0.5f);
  EXPECT_THAT(final_value(2), testing::Each(one));
  EXPECT_THAT(final_value(4), testing::Each(one));
  // With both moments zero, bias correction of step 1 makes Adam's first step as long as the learning rate.
  EXPECT_NEAR(final_value(2, 1)[0], 0.4f, 1e-4f);
}

TEST(Ledger, SeesAChangeOfASingleBitInEverySection) {
  VariableTable variables;
  variables.parameter("w", {100}, Initializer::constant(1));
  variables.parameter("twin", {100}, Initializer::constant(1));
  variables.declare({"fixed", {3}, DType::f32, Role::frozen_parameter, Initializer::constant(2), {}});
  const auto optimizer = make_optimizer("adam");
  const Plan plan = make_plan({.variables = variables, .optimizer = *optimizer, .settings = {.mesh = {{"data", 1}}}});
  const auto serial = make_serial_communicator();
  Pool pool({});
  VariableStore store(plan, variables, *optimizer, *serial, pool, 1);
  const std::string before = ledger_line(0, 1.0f, store, 7);
  for (const PlannedVariable& variable : plan.variables) {
    auto* bytes = static_cast<unsigned char*>(store.memory().view(variable).data);
    bytes[variable.local_bytes() - 1] ^= 1;
    EXPECT_NE(ledger_line(0, 1.0f, store, 7), before) << variable.path;
    bytes[variable.local_bytes() - 1] ^= 1;
  }
  EXPECT_EQ(ledger_line(0, 1.0f, store, 7), before);
  EXPECT_NE(ledger_line(0, 1.0f, store, 8), before);
  // Two elements that change places must not go unseen.
  auto* w = data<float>(store.memory().view(plan.at("w")));
  w[3] = 5;
  const std::string third = ledger_line(0, 1.0f, store, 7);
  std::swap(w[3], w[4]);
  const std::string fourth = ledger_line(0, 1.0f, store, 7);
  EXPECT_NE(fourth, third);
  // Nor two variables.
  std::swap_ranges(w, w + 100, data<float>(store.memory().view(plan.at("twin"))));
  EXPECT_NE(ledger_line(0, 1.0f, store, 7), fourth);
}

TEST(Ledger, HasAHeaderOfTheWholeConfiguration) {
  const std::string config = "model=mlp optimizer=adam learning_rate=0.001 batch=128 seed=1 dropout=0.1 clipnorm=0.5";
  const std::string header = ledger_header(config, "Eigen-3.4.0");
  EXPECT_EQ(ledger_header(config, "Eigen-3.4.0"), header);
  for (size_t at = 0; at < config.size(); ++at) {
    std::string other = config;
    other[at] ^= 1;
    EXPECT_NE(ledger_header(other, "Eigen-3.4.0"), header) << at;
  }
  EXPECT_NE(ledger_header(config, "Eigen-3.4.1"), header);
}

TEST(VariableStore, GivesVariablesOfOneShapeOtherFirstValues) {
  VariableTable variables;
  for (const char* path : {"a", "b"}) variables.parameter(path, {40}, Initializer::glorot_uniform(4, 4));
  for (const char* path : {"c", "d"}) variables.parameter(path, {40}, Initializer::normal(0.02));
  const auto optimizer = make_optimizer("sgd");
  const Plan plan = make_plan({.variables = variables, .optimizer = *optimizer, .settings = {.mesh = {{"data", 1}}}});
  const auto serial = make_serial_communicator();
  Pool pool({});
  const VariableStore store(plan, variables, *optimizer, *serial, pool, 1),
      again(plan, variables, *optimizer, *serial, pool, 1), other(plan, variables, *optimizer, *serial, pool, 2);
  const auto values = [&](const VariableStore& of, const char* path) { return toy::doubles(of, plan.at(path)); };
  EXPECT_NE(values(store, "a"), values(store, "b"));
  EXPECT_NE(values(store, "c"), values(store, "d"));
  for (const char* path : {"a", "b", "c", "d"}) {
    EXPECT_EQ(values(store, path), values(again, path)) << path;
    EXPECT_NE(values(store, path), values(other, path)) << path;
  }
}

TEST(VariableStore, EntersTheBytesOfThePlanIntoTheLedger) {
  VariableTable variables;
  variables.parameter("w", {100}, Initializer::constant(1));
  const auto optimizer = make_optimizer("adam");
  const Plan plan = make_plan({.variables = variables, .optimizer = *optimizer, .settings = {.mesh = {{"data", 1}}}});
  const auto serial = make_serial_communicator();
  Pool pool({});
  {
    const VariableStore store(plan, variables, *optimizer, *serial, pool, 1);
    EXPECT_EQ(pool.live(Purpose::parameters).now, plan.memory().parameters);
    EXPECT_EQ(pool.live(Purpose::slots).now, plan.memory().slots);
    EXPECT_EQ(pool.live(Purpose::scalars).now, plan.memory().scalars);
  }
  EXPECT_EQ(pool.live_total(), 0);
}

}  // namespace
}  // namespace lockstep
