// SPDX-License-Identifier: Apache-2.0
// What a step does to a single number, computed by hand: rates, bounds, averages, loss scale, and the weight of
// samples.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "collectives/host/thread_ranks.h"
#include "optimizers/schedules/schedule.h"
#include "runtime/ops/ops.h"
#include "runtime/plan/planner.h"
#include "runtime/step/train_step.h"
#include "runtime/variables/parameter_groups.h"
#include "tests/support/batch_parts.h"
#include "tests/support/toy_training.h"

namespace lockstep {
namespace {

using testing::Each;
using testing::ElementsAre;

constexpr int kParts = 4;  // of one sample each

// The loss is w times the mean of x, and that mean the gradient of w: plain descent takes rate times it off.
struct OneNumber {
  OptimizerChoice choice = {.name = "sgd", .options = {{"learning_rate", 1}}};
  std::optional<std::string> schedule = {};
  float first_value = 0;
  std::vector<float> x;  // of every sample, by step
  int64_t freeze_at = -1, unfreeze_at = -1;
  bool take_averages = false;
};

struct Trace {
  std::vector<double> w, rates, scales;  // after each step; `w` once more in the end if averages are taken
  std::vector<bool> skipped;
};

double value_of(const VariableStore& store, std::string_view ending) {
  for (const PlannedVariable& variable : store.plan().variables)
    if (variable.path.ends_with(ending)) return toy::doubles(store, variable)[0];
  return std::numeric_limits<double>::quiet_NaN();
}

Trace follow(const OneNumber& run, int ranks = 2) {
  VariableTable variables;
  const Variable w = variables.parameter("w", {}, Initializer::constant(run.first_value));
  const OptimizerSet optimizer = make_optimizer_set(variables, run.choice);
  std::optional<Schedule> schedule;
  if (run.schedule) schedule = make_schedule(*run.schedule, optimizer.learning_rate());
  const Plan plan = make_plan({.variables = variables,
                               .optimizer = optimizer,
                               .settings = {.mesh = {{"data", ranks}}, .virtual_ranks = kParts}});
  const Forward forward = [&](Context& context, const Batch& batch) {
    const Tensor x = reshape(context, Tensor(batch["x"]), {1});
    return Results{multiply(context, reshape(context, context.value(w), {1}), x)};
  };
  Trace trace;
  run_thread_ranks(ranks, [&](Communicator& communicator) {
    Stream stream = Stream::cpu();
    Pool pool({});
    VariableStore store(plan, variables, optimizer, communicator, pool, 1);
    TrainStep step(communicator, store, optimizer, forward, stream, pool, 1,
                   {.schedule = schedule ? &*schedule : nullptr});
    for (int64_t s = 0; s < int64_t(run.x.size()); ++s) {
      if (s == run.freeze_at || s == run.unfreeze_at) step.set_frozen("w", s == run.freeze_at);
      std::vector<BatchPart> own;
      const int64_t id = 0;
      for (int leaf = step.first_part(); leaf < step.last_part(); ++leaf)
        own.push_back({leaf, Batch({{"x", ConstView{&run.x[size_t(s)], DType::f32, DeviceKind::cpu, Shape{1}}}},
                                   {&id, DType::i64, DeviceKind::cpu, Shape{1}})});
      const StepReport report = step.run({s, kParts, own});
      if (communicator.rank() != 0) continue;
      trace.w.push_back(value_of(store, "w"));
      trace.rates.push_back(store.scalars().learning_rate());
      trace.scales.push_back(value_of(store, "loss_scale"));
      trace.skipped.push_back(report.skipped);
    }
    if (run.take_averages) step.take_averages();
    if (run.take_averages && communicator.rank() == 0) trace.w.push_back(value_of(store, "w"));
    communicator.barrier();
  });
  return trace;
}

TEST(StepRules, TakeTheRateOfTheStepAndNotOfTheOneBefore) {
  const Trace trace =
      follow({.schedule = "piecewise_constant(boundaries=[0, 1], values=[1, 2, 4])", .x = {1, 1, 1, 1}});
  EXPECT_THAT(trace.rates, ElementsAre(1, 2, 4, 4));
  EXPECT_THAT(trace.w, ElementsAre(-1, -3, -7, -11));
}

TEST(StepRules, CountFiniteStepsAnewAfterASkip) {
  // x times the scale overflows, and the loss does not: w is 0 until then.
  const float too_large = 3e38f;
  OneNumber run{.x = {0, 0, too_large, 0, 0, 0, 0}};
  run.choice.scaling = LossScaling{.initial = 64, .growth_steps = 3};
  const Trace trace = follow(run);
  EXPECT_THAT(trace.skipped, ElementsAre(false, false, true, false, false, false, false));
  // Halved by the skip, and doubled by the third step after it: with the two before, it would be the first.
  EXPECT_THAT(trace.scales, ElementsAre(64, 64, 32, 32, 32, 64, 64));
}

TEST(StepRules, BoundNoFrozenVariable) {
  OneNumber run{.first_value = -5, .x = {1, 1, 1}, .freeze_at = 0, .unfreeze_at = 2};
  run.choice.rules = {parse_group_rule("w => minimum=-2")};
  EXPECT_THAT(follow(run).w, ElementsAre(-5, -5, -2));
}

TEST(StepRules, BoundNothingInASkippedStep) {
  OneNumber run{.x = {3e38f, 0}};
  run.choice.scaling = LossScaling{.initial = 64};
  run.choice.rules = {parse_group_rule("w => minimum=1")};
  const Trace trace = follow(run);
  EXPECT_THAT(trace.skipped, ElementsAre(true, false));
  EXPECT_THAT(trace.w, ElementsAre(0, 1));
}

TEST(StepRules, GiveNoFrozenVariableItsAverage) {
  OneNumber run{.x = {2, 2, 2}, .take_averages = true};
  run.choice.average = MovingAverage{.momentum = 0.5};
  // The averages of -2, -4, -6: -2, -3, -4.5.
  EXPECT_THAT(follow(run).w, ElementsAre(-2, -4, -6, -4.5));
  run.freeze_at = 2;
  EXPECT_THAT(follow(run).w, ElementsAre(-2, -4, -4, -4)) << "it stays, also in the end";
  run.unfreeze_at = 3;
  run.x.push_back(2);
  EXPECT_THAT(follow(run).w, ElementsAre(-2, -4, -4, -6, -4.5)) << "the average is taken up where it stood";
}

// Four samples on three leaves: two leaves have one each, and one has two.
TEST(StepRules, WeighSamplesAlikeOnLeavesOfUnequalSize) {
  const toy::Setting whole{
      .virtual_ranks = 1, .steps = 16, .batch = 4, .optimizer = "sgd", .learning_rate = 0.5, .dropout = 0};
  toy::Setting cut = whole;
  cut.virtual_ranks = 3;
  const toy::Outcome expected = toy::train(whole);
  for (const int ranks : {1, 2, 3}) {
    cut.ranks = ranks;
    const toy::Outcome actual = toy::train(cut);
    for (const auto& [path, values] : expected.values)
      for (size_t i = 0; i < values.size(); ++i)
        EXPECT_NEAR(actual.values.at(path)[i], values[i], 2e-5) << path << "[" << i << "], " << ranks << " ranks";
  }
}

}  // namespace
}  // namespace lockstep
