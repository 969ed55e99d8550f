// SPDX-License-Identifier: Apache-2.0
// Training with weights in bf16 and f16: the same bits on any number of ranks, on CPUs and GPUs, and from a file on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/cases.h"
#include "tests/support/devices.h"
#include "tests/support/files.h"
#include "tests/support/toy_training.h"

namespace lockstep {
namespace {

using testing::Each;
using testing::HasSubstr;
using toy::Outcome;
using toy::Setting;
using toy::train;

struct Kept {
  DType weights;
  bool stochastic;
};
constexpr Kept kEveryWay[] = {{DType::bf16, false}, {DType::bf16, true}, {DType::f16, false}};

Setting with(Setting setting, const Kept& kept) {
  setting.weights = kept.weights;
  setting.plan.stochastic_rounding = kept.stochastic;
  return setting;
}
std::string text(const Kept& kept) {
  return str(to_string(kept.weights), kept.stochastic ? ", rounded stochastically" : ", with masters");
}

TEST(Precision, GivesTheSameBitsOnAnyNumberOfRanksWithEveryOptimizer) {
  for (const Kept& kept : kEveryWay)
    for (const std::string_view name : cases(optimizer_names(), 4)) {
      SCOPED_TRACE(str(name, " ", text(kept)));
      const Setting one = with({.steps = 8, .optimizer = std::string(name)}, kept);
      const Outcome expected = train(one);
      for (const int ranks : cases({3, 2, 8, 4})) {
        Setting several = one;
        several.ranks = ranks;
        if (ranks == 3) several.node_of = {0, 0, 1};
        if (ranks == 4) several.bucket_bytes = 1 << 20;
        const Outcome outcome = train(several);
        EXPECT_EQ(outcome.ledger, expected.ledger) << ranks;
        EXPECT_THAT(outcome.counters, Each(8));
      }
    }
}

TEST(Precision, GivesTheSameBitsInAThousandStepsOnThreeRanks) {
  for (const Kept& kept : kEveryWay) {
    Setting setting = with({.steps = 1000, .batch = 24}, kept);
    const Outcome one = train(setting);
    setting.ranks = 3;
    EXPECT_EQ(train(setting).ledger, one.ledger) << text(kept);
    EXPECT_LT(one.losses.back(), 0.5f * one.losses.front());
  }
}

TEST(Precision, GoesWithGroupsClippingAveragesScalingAndAccumulation) {
  for (const Kept& kept : kEveryWay)
    for (const ClipOptions& clip : {ClipOptions{.clipnorm = 0.05}, ClipOptions{.global_clipnorm = 0.1}}) {
      Setting setting = with({.plan = {.accumulation = 2},
                              .groups = {"first/weight => sgd(learning_rate=0.05, momentum=0.9)",
                                         "last/weight => lamb(learning_rate=0.01)"},
                              .average = MovingAverage{.momentum = 0.5, .overwrite_every = 3},
                              .scaling = LossScaling{.initial = 1024, .growth_steps = 4},
                              .clip = clip,
                              .take_averages = true,
                              .freeze = {"first/weight"},
                              .freeze_at = 4,
                              .unfreeze_at = 9},
                             kept);
      const Outcome one = train(setting);
      setting.ranks = 3;
      const Outcome three = train(setting);
      EXPECT_EQ(three.ledger, one.ledger) << text(kept);
      EXPECT_EQ(three.values, one.values);
    }
}

std::vector<double> rounded(const std::vector<double>& values, DType dtype) {
  std::vector<double> all;
  for (const double x : values)
    all.push_back(dtype == DType::bf16 ? double(float(bfloat16(float(x)))) : double(float(float16(float(x)))));
  return all;
}

TEST(Precision, KeepsWeightsAsRoundedCopiesOfTheirMastersAndVectorsInF32) {
  for (const DType dtype : {DType::bf16, DType::f16})
    // The averages are taken over in the end, or in the last of 20 steps.
    for (const int averaged : {0, 7, 5}) {
      Setting setting{.ranks = 2, .weights = dtype};
      if (averaged) setting.average = MovingAverage{.momentum = 0.9, .overwrite_every = averaged};
      setting.take_averages = averaged == 7;
      for (const std::string_view optimizer : {"adam", "lamb"}) {
        setting.optimizer = optimizer;
        const Outcome outcome = train(setting);
        for (const char* name : {"first/weight", "last/weight"}) {
          const auto& master = outcome.values.at(str(name, "/", optimizer, "/master"));
          EXPECT_EQ(outcome.values.at(name), rounded(master, dtype)) << name;
          EXPECT_NE(outcome.values.at(name), master) << "or masters would be of no use";
          if (averaged) {
            EXPECT_EQ(master, outcome.values.at(str(name, "/", optimizer, "/average")));
          }
        }
        EXPECT_NE(outcome.values.at("first/bias"), rounded(outcome.values.at("first/bias"), dtype));
        EXPECT_FALSE(outcome.values.contains(str("first/bias/", optimizer, "/master")));
      }
    }
}

TEST(Precision, BeginsWithMastersAndCopiesThatAreNotRounded) {
  const Setting begin{.steps = 0, .optimizer = "schedule_free_adamw", .average = MovingAverage{}};
  const Outcome wide = train(begin);
  for (const Kept& kept : kEveryWay) {
    const Outcome narrow = train(with(begin, kept));
    const auto& first = narrow.values.at("first/weight");
    EXPECT_EQ(first, rounded(wide.values.at("first/weight"), kept.weights));
    const auto& updated = kept.stochastic ? first : narrow.values.at("first/weight/schedule_free_adamw/master");
    EXPECT_EQ(updated, kept.stochastic ? first : wide.values.at("first/weight"));
    // Slots that begin as the parameter are copies of what is updated.
    EXPECT_EQ(narrow.values.at("first/weight/schedule_free_adamw/momentum"), updated);
    EXPECT_EQ(narrow.values.at("first/weight/schedule_free_adamw/average"), updated);
  }
}

TEST(Precision, RoundsStochasticallyWithoutMasters) {
  Setting setting{.plan = {.stochastic_rounding = true}, .weights = DType::bf16};
  const Outcome outcome = train(setting);
  for (const char* name : {"first/weight", "last/weight"}) {
    EXPECT_FALSE(outcome.values.contains(str(name, "/adam/master")));
    EXPECT_EQ(outcome.values.at(name), rounded(outcome.values.at(name), DType::bf16));
  }
  // Slots are f32, and take what bf16 cannot.
  const auto& velocity = outcome.values.at("first/weight/adam/velocity");
  EXPECT_NE(velocity, rounded(velocity, DType::bf16));
}

TEST(Precision, HoldsWhatThePlanSays) {
  VariableTable variables;
  const Linear first(variables, "first", toy::kInputs, 16), last(variables, "last", 16, toy::kClasses);
  variables.narrow_weights(DType::bf16);
  for (const bool stochastic : {false, true}) {
    const Outcome outcome =
        train({.ranks = 2, .plan = {.stochastic_rounding = stochastic}, .bucket_bytes = 512, .weights = DType::bf16});
    const Plan plan = make_plan(
        {.variables = variables,
         .optimizer = *make_optimizer("adam"),
         .settings = {
             .mesh = {{"data", 2}}, .virtual_ranks = 8, .bucket_bytes = 512, .stochastic_rounding = stochastic}});
    EXPECT_EQ(plan.slots, stochastic ? 2 : 3);
    EXPECT_EQ(outcome.parameter_bytes, plan.memory().parameters);
    EXPECT_EQ(outcome.slot_bytes, plan.memory().slots);
    EXPECT_EQ(outcome.gradient_bytes, plan.memory().gradients);
    EXPECT_EQ(plan.at("first/weight").dtype, DType::bf16);
    EXPECT_EQ(plan.at("first/weight/adam/velocity").dtype, DType::f32);
    EXPECT_EQ(plan.at("adam/iteration").dtype, DType::i64) << "never narrowed";
  }
}

// The scale begins beyond what f16 holds: steps are skipped by all, and it halves until gradients are finite.
TEST(Precision, HalvesTheLossScaleUntilF16HoldsTheGradients) {
  std::optional<Outcome> one;
  for (const int ranks : {1, 2, 3}) {
    const Outcome outcome =
        train({.ranks = ranks, .steps = 20, .weights = DType::f16, .scaling = LossScaling{.initial = 0x1p26}});
    if (!one) one = outcome;
    EXPECT_EQ(outcome.ledger, one->ledger) << ranks;
    EXPECT_TRUE(outcome.skipped.front());
    EXPECT_FALSE(outcome.skipped.back());
    const auto skipped = std::ranges::count(outcome.skipped, true);
    EXPECT_EQ(outcome.values.at("adam/loss_scale"), std::vector<double>{std::ldexp(1, int(26 - skipped))});
    EXPECT_THAT(outcome.counters, Each(20 - skipped)) << "skipped steps do not count";
    EXPECT_LT(outcome.losses.back(), outcome.losses.front());
  }
}

TEST(Precision, EndsOnTheSameBitsFromAFileOn) {
  for (const Kept& kept : kEveryWay) {
    const TemporaryFolder folder;
    const Setting whole = with({.steps = 12, .average = MovingAverage{.momentum = 0.9}}, kept);
    Setting begin = whole, rest = whole;
    begin.ranks = 3;
    begin.steps = rest.first_step = 5;
    begin.save = rest.restore = folder / "state";
    rest.seed = 77;  // other first values, which the file replaces
    (void)train(begin);
    EXPECT_EQ(train(rest).values, train(whole).values) << text(kept);
  }
}

void expect_like_cpu(const Setting& setting) {
  Setting gpu = setting;
  gpu.on_gpu = true;
  if (gpu.ranks > 1) gpu.transport = DeviceTransport::staged;
  const Outcome expected = train(setting), outcome = train(gpu);
  if (products_have_equal_bits()) {
    EXPECT_EQ(outcome.ledger, expected.ledger);
    EXPECT_EQ(outcome.values, expected.values);
  } else {
    ASSERT_EQ(outcome.losses.size(), expected.losses.size());
    for (size_t s = 0; s < expected.losses.size(); ++s)
      EXPECT_NEAR(outcome.losses[s], expected.losses[s], 1e-3f) << "step " << s;
  }
  EXPECT_EQ(outcome.counters, expected.counters);
}

TEST(PrecisionOnAGpu, TakesTheBitsOfCpuRanks) {
  LOCKSTEP_NEEDS_GPU();
  for (const Kept& kept : kEveryWay)
    for (const std::string_view name : cases({"adam", "nadam", "lamb", "muon"})) {
      SCOPED_TRACE(str(name, " ", text(kept)));
      expect_like_cpu(with({.steps = 6, .optimizer = std::string(name)}, kept));
      expect_like_cpu(with({.ranks = 2, .steps = 6, .bucket_bytes = 1024, .optimizer = std::string(name)}, kept));
    }
}

TEST(PrecisionOnAGpu, GoesWithGroupsClippingAveragesScalingAndGraphs) {
  LOCKSTEP_NEEDS_GPU();
  for (const Kept& kept : cases(kEveryWay)) {
    Setting setting = with({.groups = {"first/weight => sgd(learning_rate=0.05, momentum=0.9)",
                                       "last/weight => lamb(learning_rate=0.01, minimum=-0.25)"},
                            .average = MovingAverage{.momentum = 0.5, .overwrite_every = 3},
                            .scaling = LossScaling{.initial = 0x1p24, .growth_steps = 4},
                            .clip = {.clipnorm = 0.05},
                            .take_averages = true,
                            .freeze = {"first/weight"},
                            .freeze_at = 4,
                            .unfreeze_at = 9},
                           kept);
    expect_like_cpu(setting);
    setting.on_gpu = true;
    const Outcome queued = train(setting);
    setting.graph = true;
    EXPECT_EQ(train(setting).ledger, queued.ledger) << text(kept);
  }
}

std::string plan_error(DType dtype, bool stochastic) {
  try {
    (void)train({.plan = {.stochastic_rounding = stochastic}, .steps = 1, .weights = dtype});
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::plan);
    return error.what();
  }
  return "no error";
}

TEST(Precision, RefusesWhatCannotBe) {
  EXPECT_THAT(plan_error(DType::f16, true),
              HasSubstr("variable first/weight is f16, and only bf16 is rounded stochastically; keep f32 masters"));
  VariableTable variables;
  EXPECT_THROW(variables.narrow_weights(DType::i32), Error);
}

}  // namespace
}  // namespace lockstep
