// SPDX-License-Identifier: Apache-2.0
// A step in two launches on a GPU: the bits of the CPU, and what a step does besides its rule against gradients that
// the test itself scales, clips or leaves out.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/optimizers/device_variables.h"
#include "tests/optimizers/every_rule.h"
#include "tests/optimizers/same_bits.h"
#include "tests/support/cases.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

using testing::Each;

TEST(OptimizerOnAGpu, TakesTheBitsOfTheCpu) {
  LOCKSTEP_NEEDS_GPU();
  constexpr int64_t kSteps = kUnderSanitizer ? 5 : 20;
  for (const Variant& variant : every_variant())
    for (const int64_t n : cases<int64_t>({3, 1, 31, 1000, 4099, 33}))
      for (const int64_t offset : {0, 1}) {
        const auto rule = variant.make();
        FlatVariables cpu(*rule, eighths(n, 1));
        DeviceVariables gpu(*rule, cpu, offset);
        for (int64_t step = 1; step <= kSteps; ++step) {
          cpu.grad = eighths(n, uint32_t(1 + step));
          gpu.step(cpu.grad);
          cpu.update(*rule, step);
        }
        expect_same_bits(gpu.get(), cpu, str(variant.text(), ", ", n, " elements, offset ", offset));
        EXPECT_EQ(gpu.iteration(), kSteps) << variant.text();
      }
}

// Each element times the factor of its variable.
std::vector<float> scaled(std::vector<float> x, const std::vector<uint32_t>& variable_of,
                          const std::vector<float>& factors) {
  for (size_t i = 0; i < x.size(); ++i) x[i] *= factors[variable_of[i / 32]];
  return x;
}

TEST(OptimizerOnAGpu, AppliesFactorsOfVariables) {
  LOCKSTEP_NEEDS_GPU();
  const std::vector<uint32_t> variable_of = {0, 1, 1, 3, 2, 2, 0, 4, 4, 5};
  const std::vector<float> factors = {1, 0.5f, 2, 0.25f, 3, 0.37f}, ones(6, 1.0f);
  constexpr int64_t n = 32 * 9 + 5;
  for (const Variant& variant : cases(every_variant(), 6))
    for (const bool with_factors : {false, true})
      for (const int64_t offset : {0, 1}) {
        const std::string what = str(variant.text(), ", factors ", with_factors, " at ", offset);
        const auto rule = variant.make({{"weight_decay", 0.01}});
        FlatVariables expected(*rule, eighths(n, 1));
        DeviceVariables gpu(*rule, expected, offset);
        if (with_factors) gpu.set_granules({gpu.memory().put(variable_of), gpu.memory().put(factors)});
        for (int64_t step = 1; step <= 3; ++step) {
          const std::vector<float> gradient = eighths(n, uint32_t(1 + step));
          gpu.step(gradient);
          expected.grad = scaled(gradient, variable_of, with_factors ? factors : ones);
          expected.update(*rule, step);
        }
        expect_same_bits(gpu.get(), expected, what);
        EXPECT_THAT(gpu.get().grad, Each(0)) << what;
      }
}

TEST(OptimizerOnAGpu, UpdatesTheVariablesOfItsGroupOnly) {
  LOCKSTEP_NEEDS_GPU();
  const std::vector<uint32_t> variable_of = {0, 1, 1, 2, 3}, groups = {4, 7, 4, 7};
  const std::vector<float> factors = {0.5f, 2, 3, 0.25f};
  constexpr int64_t n = 32 * 4 + 9;
  for (const Variant& variant : cases(every_variant(), 6)) {
    const auto rule = variant.make();
    const FlatVariables begun(*rule, eighths(n, 1));
    FlatVariables updated = begun;
    DeviceVariables gpu(*rule, begun);
    DeviceMemory& memory = gpu.memory();
    gpu.set_granules({memory.put(variable_of), memory.put(factors), memory.put(groups), 7});
    const std::vector<float> gradient = eighths(n, 2);
    gpu.step(gradient);
    updated.grad = scaled(gradient, variable_of, factors);
    updated.update(*rule, 1);
    FlatVariables expected = updated;
    const auto keep_others = [&](std::vector<float>& values, const std::vector<float>& before) {
      for (size_t i = 0; i < values.size(); ++i)
        if (groups[variable_of[i / 32]] != 7) values[i] = before[i];
    };
    keep_others(expected.param, begun.param);
    keep_others(expected.grad, gradient);
    for (size_t s = 0; s < begun.slots.size(); ++s) keep_others(expected.slots[s], begun.slots[s]);
    expect_same_bits(gpu.get(), expected, variant.text());
  }
}

// Only the last one fills its granules; the second has two chunks of squares.
const std::vector<int64_t> kSizes = {40, 5000, 7, 64};

// Variables of kSizes on the GPU, with a working copy, that steps decide about.
struct DecidedVariables {
  DecidedVariables(const Optimizer& optimizer, const FlatVariables& begun, ClipKind clip = ClipKind::none,
                   double limit = 0)
      : gpu(optimizer, begun), tables(gpu.memory(), kSizes, gpu.state().decision) {
    tables.verdict.clip = clip;
    tables.verdict.limit = limit;
    if (clip == ClipKind::each_variable) gpu.set_granules(tables.granule_map());
  }
  static int64_t elements() { return 64 + 5024 + 32 + 64; }

  void step(const std::vector<float>& gradient, double loss_sum = 6, const LearningRates& rates = {}) {
    gpu.set_gradient(gradient);
    tables.measure(gpu.gradient(), loss_sum);
    gpu.prepare(rates, &tables.verdict);
    gpu.update();
  }
  // Of the variables; what is between them is 0.
  std::vector<float> gradient(uint32_t seed) const {
    std::vector<float> values(static_cast<size_t>(elements())), some = eighths(elements(), seed);
    for (size_t v = 0; v < kSizes.size(); ++v)
      std::copy_n(some.begin() + tables.firsts[v], kSizes[v], values.begin() + tables.firsts[v]);
    for (int64_t i = 0; i < kSizes[0]; ++i) values[size_t(i)] /= 64;  // one that no limit below concerns
    return values;
  }

  DeviceVariables gpu;
  DecisionTables tables;
};

double norm(const std::vector<float>& x, int64_t begin, int64_t n) {
  double sum = 0;
  for (int64_t i = begin; i < begin + n; ++i) sum += double(x[size_t(i)]) * double(x[size_t(i)]);
  return std::sqrt(sum);
}

std::vector<float> clipped(std::vector<float> g, ClipKind clip, double limit, const DecisionTables& tables) {
  const auto shorten = [&](int64_t begin, int64_t n) {
    const double length = norm(g, begin, n);
    if (length <= limit) return;
    for (int64_t i = begin; i < begin + n; ++i) g[size_t(i)] *= float(limit / length);
  };
  if (clip == ClipKind::values)
    for (float& x : g) x = std::min(std::max(x, -float(limit)), float(limit));
  if (clip == ClipKind::all_variables) shorten(0, int64_t(g.size()));
  if (clip == ClipKind::each_variable)
    for (size_t v = 0; v < kSizes.size(); ++v) shorten(tables.firsts[v], kSizes[v]);
  return g;
}

struct Clip {
  ClipKind kind;
  double limit;
};
// The last one concerns no gradient.
constexpr Clip kClips[] = {{ClipKind::none, 0},
                           {ClipKind::values, 2.5},
                           {ClipKind::all_variables, 3},
                           {ClipKind::each_variable, 3},
                           {ClipKind::all_variables, 1e6}};

TEST(OptimizerOnAGpu, ClipsByValueByNormAndByTheNormOfEachVariable) {
  LOCKSTEP_NEEDS_GPU();
  for (const Variant& variant : cases(every_variant(), 6))
    for (const Clip& clip : kClips) {
      const auto rule = variant.make();
      FlatVariables expected(*rule, eighths(DecidedVariables::elements(), 1));
      DecidedVariables variables(*rule, expected, clip.kind, clip.limit);
      for (int64_t step = 1; step <= 3; ++step) {
        const std::vector<float> gradient = variables.gradient(uint32_t(1 + step));
        variables.step(gradient);
        expected.grad = clipped(gradient, clip.kind, clip.limit, variables.tables);
        expected.update(*rule, step);
      }
      expect_same_bits(variables.gpu.get(), expected, str(variant.text(), ", clip ", int(clip.kind)));
    }
}

TEST(OptimizerOnAGpu, ASkippedStepLeavesEverythingAndClearsTheGradient) {
  LOCKSTEP_NEEDS_GPU();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const Variant& variant : cases(every_variant(), 6))
    for (const Clip& clip : kClips) {
      const std::string what = str(variant.text(), ", clip ", int(clip.kind));
      const auto rule = variant.make({{"weight_decay", 0.01}});
      DecidedVariables variables(*rule, FlatVariables(*rule, eighths(DecidedVariables::elements(), 1)), clip.kind,
                                 clip.limit);
      variables.step(variables.gradient(2));
      const FlatVariables before = variables.gpu.get();
      std::vector<float> bad = variables.gradient(3);
      bad[size_t(variables.tables.firsts[1] + 4999)] = infinity;
      bad[size_t(variables.tables.firsts[3])] = std::nanf("");
      variables.step(bad);
      expect_same_bits(variables.gpu.get(), before, what);
      EXPECT_EQ(variables.gpu.iteration(), 1) << what;
      // The next one counts from where the first one was.
      FlatVariables expected = before;
      expected.grad = clipped(variables.gradient(4), clip.kind, clip.limit, variables.tables);
      expected.update(*rule, 2);
      variables.step(variables.gradient(4));
      expect_same_bits(variables.gpu.get(), expected, what);
      const StepOutcome outcome = variables.tables.outcome();
      EXPECT_EQ(outcome.steps, 3);
      EXPECT_EQ(outcome.skipped, 1);
      EXPECT_EQ(outcome.last_skipped, 1);
      EXPECT_EQ(outcome.last_not_finite, 1) << "the first of two";
    }
}

TEST(OptimizerOnAGpu, NothingChangesAfterALossThatIsNotFinite) {
  LOCKSTEP_NEEDS_GPU();
  for (const Variant& variant : cases(every_variant(), 6)) {
    const auto rule = variant.make();
    DecidedVariables variables(*rule, FlatVariables(*rule, eighths(DecidedVariables::elements(), 1)));
    variables.step(variables.gradient(2));
    const FlatVariables before = variables.gpu.get();
    const StepOutcome fine = variables.tables.outcome();
    variables.step(variables.gradient(3), std::nan(""));
    std::vector<float> bad = variables.gradient(4);
    bad[0] = std::nanf("");
    variables.step(bad);
    variables.step(variables.gradient(5), HUGE_VAL);
    variables.step(variables.gradient(6));
    expect_same_bits(variables.gpu.get(), before, variant.text());
    EXPECT_EQ(variables.gpu.iteration(), 1) << variant.text();
    const StepOutcome outcome = variables.tables.outcome();
    EXPECT_EQ(outcome.broken, 1);
    EXPECT_EQ(outcome.broken_step, 1) << "of the first loss";
    EXPECT_TRUE(std::isnan(outcome.broken_loss)) << "the first loss";
    EXPECT_EQ(outcome.steps, 5);
    EXPECT_EQ(outcome.skipped, 0) << "it is not the gradients";
    EXPECT_EQ(outcome.loss_sum, fine.loss_sum);
    EXPECT_EQ(outcome.sums_of_all_steps[0], fine.sums_of_all_steps[0]);
  }
}

TEST(OptimizerOnAGpu, AddsUpLossesAndRightAnswers) {
  LOCKSTEP_NEEDS_GPU();
  const auto sgd = make_optimizer("sgd");
  DecidedVariables variables(*sgd, FlatVariables(*sgd, eighths(DecidedVariables::elements(), 1)));
  variables.step(variables.gradient(2));
  variables.step(variables.gradient(3), 14);
  const StepOutcome outcome = variables.tables.outcome();
  EXPECT_EQ(outcome.loss, 2.0f) << "(14 + 2) / 8";
  EXPECT_EQ(outcome.sums[0], 3);
  EXPECT_EQ(outcome.loss_sum, 24);
  EXPECT_EQ(outcome.sums_of_all_steps[0], 6);
  EXPECT_EQ(outcome.last_skipped, -1);
  EXPECT_EQ(outcome.last_not_finite, -1);
}

TEST(OptimizerOnAGpu, TriesASkippedStepAgainAtItsRate) {
  LOCKSTEP_NEEDS_GPU();
  const auto adam = make_optimizer("adam");
  DecidedVariables variables(*adam, FlatVariables(*adam, eighths(DecidedVariables::elements(), 1)));
  const LearningRates rates{.values = variables.gpu.memory().put<double>({0.5, 0.25, 0.125}), .first = 0, .count = 3};
  const auto rate_after = [&](const std::vector<float>& gradient) {
    variables.step(gradient, 6, rates);
    return variables.gpu.learning_rate();
  };
  EXPECT_EQ(rate_after(variables.gradient(2)), 0.5);
  EXPECT_EQ(rate_after(std::vector<float>(size_t(DecidedVariables::elements()), std::nanf(""))), 0.25);
  EXPECT_EQ(variables.gpu.iteration(), 1);
  EXPECT_EQ(rate_after(variables.gradient(3)), 0.25);
  EXPECT_EQ(rate_after(variables.gradient(4)), 0.125);
  EXPECT_EQ(variables.gpu.iteration(), 3);
}

TEST(OptimizerOnAGpu, WithoutAVerdictTheDecisionStaysWhatItIs) {
  LOCKSTEP_NEEDS_GPU();
  constexpr int64_t n = 37;
  const auto adam = make_optimizer("adam");
  FlatVariables expected(*adam, eighths(n, 1));
  DeviceVariables gpu(*adam, expected);
  const auto decide_by = [&](const StepScalars& decision) {
    gpu.memory().set(gpu.state().decision, std::vector<StepScalars>{decision});
  };
  decide_by({.grad_scale = 0.25f, .clip_value = 2});
  const std::vector<float> gradient = eighths(n, 2);
  gpu.step(gradient);
  expected.grad = gradient;
  for (float& g : expected.grad) g = std::min(std::max(g, -2.0f), 2.0f) * 0.25f;
  expected.update(*adam, 1);
  expect_same_bits(gpu.get(), expected, "clipped first, then scaled");
  decide_by({.skip = true});
  gpu.step(gradient);
  expect_same_bits(gpu.get(), expected, "skipped");
  EXPECT_EQ(gpu.iteration(), 1);
}

TEST(OptimizerOnAGpu, TakesTheLossScaleOutOfGradientsAndAdjustsIt) {
  LOCKSTEP_NEEDS_GPU();
  for (const Clip& clip : kClips) {
    const auto adam = make_optimizer("adam");
    FlatVariables expected(*adam, eighths(DecidedVariables::elements(), 1));
    DecidedVariables variables(*adam, expected, clip.kind, clip.limit);
    DeviceMemory& memory = variables.gpu.memory();
    double* cells = variables.tables.verdict.loss_scale = memory.put<double>({1024, 0});
    variables.tables.verdict.growth_steps = 2;
    const auto scale_after = [&](std::vector<float> gradient, float scale) {
      for (float& g : gradient) g *= scale;
      variables.step(gradient);
      return memory.value(cells);
    };
    const auto expect_update = [&](uint32_t seed, int64_t step) {
      expected.grad = clipped(variables.gradient(seed), clip.kind, clip.limit, variables.tables);
      expected.update(*adam, step);
      expect_same_bits(variables.gpu.get(), expected, str("clip ", int(clip.kind), ", step ", step));
    };
    EXPECT_EQ(scale_after(variables.gradient(2), 1024), 1024);
    expect_update(2, 1);
    EXPECT_EQ(scale_after(variables.gradient(3), 1024), 2048) << "two steps were fine";
    expect_update(3, 2);
    EXPECT_EQ(scale_after(variables.gradient(4), std::nanf("")), 1024) << "one was not";
    EXPECT_EQ(scale_after(variables.gradient(4), 1024), 1024);
    expect_update(4, 3);
  }
}

}  // namespace
}  // namespace lockstep
