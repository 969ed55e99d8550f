// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <utility>

#include "kernels/device/check.h"
#include "tests/optimizers/every_rule.h"
#include "tests/optimizers/flat_variables.h"
#include "tests/optimizers/same_bits.h"

namespace lockstep {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

// Values of all sizes, from subnormal to 1e18, with zeros.
std::vector<float> values_of_all_sizes(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(n);
  for (float& x : values) {
    const int exponent = int(random() % 200) - 140;
    const float mantissa = float(random() % 4096) / 4096;
    x = std::ldexp(random() % 3 ? mantissa : 1 + mantissa, random() % 2 ? exponent : 0);
    if (random() % 2) x = -x;
  }
  return values;
}

// After two steps, with the gradient of the third.
FlatVariables trained_variables(const Optimizer& optimizer, size_t n) {
  FlatVariables variables(optimizer, values_of_all_sizes(n, 1));
  for (int64_t step = 1; step <= 2; ++step) {
    variables.grad = values_of_all_sizes(n, uint32_t(1 + step));
    variables.update(optimizer, step);
  }
  variables.grad = values_of_all_sizes(n, 4);
  return variables;
}

constexpr StepScalars kScaled{.grad_scale = 0.37f, .skip = false};

TEST(OptimizerUpdate, GivesTheSameBitsWhereverRangesAreCut) {
  constexpr int64_t n = 83;
  Stream stream = Stream::cpu();
  for (const Variant& variant : every_variant()) {
    const auto rule = variant.make();
    FlatVariables begun = trained_variables(*rule, n);
    begun.prepare(*rule, stream, 3, 0.01, kScaled);
    FlatVariables one_by_one = begun;
    for (int64_t i = 0; i < n; ++i) one_by_one.update_range(*rule, stream, i, i + 1);
    for (int64_t cut = 0; cut <= n; ++cut) {
      FlatVariables cut_once = begun;
      cut_once.update_range(*rule, stream, 0, cut);
      cut_once.update_range(*rule, stream, cut, n);
      expect_same_bits(cut_once, one_by_one, str(variant.text(), " cut at ", cut));
    }
  }
}

TEST(OptimizerUpdate, AThousandStepsOnThreeUnevenShardsGiveTheBitsOfOne) {
  constexpr int64_t n = 83;
  Stream stream = Stream::cpu();
  for (const Variant& variant : every_variant()) {
    const auto rule = variant.make();
    FlatVariables whole(*rule, values_of_all_sizes(n, 1)), sharded = whole;
    std::mt19937 random(5);
    for (int64_t step = 1; step <= 1000; ++step) {
      for (float& g : whole.grad) g = float(random()) * 0x1p-31f - 1;
      sharded.grad = whole.grad;
      whole.prepare(*rule, stream, step, 0.01, kScaled);
      sharded.prepare(*rule, stream, step, 0.01, kScaled);
      whole.update_range(*rule, stream, 0, n);
      for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{71, n}, {0, 13}, {13, 71}})
        sharded.update_range(*rule, stream, begin, end);
    }
    expect_same_bits(sharded, whole, variant.text());
  }
}

TEST(OptimizerUpdate, GivesTheSameBitsForAnyNumberOfThreads) {
  constexpr int64_t n = 150'001;  // enough for the walk to use its threads
  for (const Variant& variant : every_variant()) {
    const auto rule = variant.make();
    FlatVariables begun = trained_variables(*rule, n);
    Stream one = Stream::cpu(1);
    begun.prepare(*rule, one, 3, 0.01, kScaled);
    FlatVariables expected = begun;
    expected.update_range(*rule, one, 0, n);
    for (const int threads : {2, 3}) {
      FlatVariables variables = begun;
      Stream stream = Stream::cpu(threads);
      variables.update_range(*rule, stream, 0, n);
      expect_same_bits(variables, expected, str(variant.text(), " with ", threads, " threads"));
    }
  }
}

TEST(OptimizerUpdate, ClearsTheGradientToPositiveZero) {
  for (const Variant& variant : every_variant()) {
    const auto rule = variant.make();
    FlatVariables variables = trained_variables(*rule, 37);
    variables.update(*rule, 3);
    EXPECT_TRUE(same_bits(variables.grad, std::vector<float>(37))) << variant.text();
  }
}

TEST(OptimizerUpdate, ASkippedStepLeavesEverythingAndClearsTheGradient) {
  const float nan = std::nanf("");
  for (const Variant& variant : every_variant()) {
    const auto rule = variant.make();
    const FlatVariables before = trained_variables(*rule, 37);
    FlatVariables after = before;
    after.grad[3] = nan;
    after.grad[36] = std::numeric_limits<float>::infinity();
    after.update(*rule, 3, {.grad_scale = nan, .skip = true});
    FlatVariables expected = before;
    expected.grad.assign(37, 0);
    expect_same_bits(after, expected, variant.text());
  }
}

TEST(OptimizerUpdate, MultipliesTheGradientWithTheOneFactor) {
  for (const Variant& variant : every_variant()) {
    const auto rule = variant.make();
    FlatVariables scaled = trained_variables(*rule, 37), plain = scaled;
    for (float& g : plain.grad) g *= 0.25f;
    scaled.update(*rule, 5, {.grad_scale = 0.25f, .skip = false});
    plain.update(*rule, 5);
    expect_same_bits(scaled, plain, variant.text());
  }
}

TEST(OptimizerUpdate, StaysFiniteForGradientsOfOrdinarySizes) {
  // A constant gradient makes variances zero; long runs, tiny rates and rates of zero are where divisions go wrong.
  for (const Variant& variant : every_variant()) {
    const auto rule = variant.make();
    FlatVariables variables(*rule, {1, -2, 0, 3e3f, 1e-3f, 0, 1, 5});
    Stream stream = Stream::cpu();
    for (int64_t step = 1; step <= 300; ++step) {
      variables.grad = {1e3f, -1e-3f, 0, 1e5f, 1, 1e-30f, 1e-8f, 0};
      const double rate = step % 50 == 0 ? 0 : step % 50 == 1 ? 1e-42 : 1e-3;
      variables.prepare(*rule, stream, step, rate);
      variables.update_range(*rule, stream, 0, 8);
      for (const float x : variables.param) ASSERT_TRUE(std::isfinite(x)) << variant.text() << " at step " << step;
    }
  }
}

TEST(OptimizerUpdate, TheTwinWithoutWeightDecayIsTheSameOptimizerOtherwise) {
  Stream stream = Stream::cpu();
  for (const Variant& variant : every_variant()) {
    if (variant.options.contains("weight_decay")) continue;
    const auto decaying = variant.make({{"weight_decay", 0.125}}), excluded = variant.make({{"weight_decay", 0}});
    FlatVariables a = trained_variables(*excluded, 37), b = a;
    for (float& x : b.param) x -= float(0.5 * 0.125) * x;  // exact: a power of two
    a.prepare(*decaying, stream, 3, 0.5, kScaled);
    b.prepare(*excluded, stream, 3, 0.5, kScaled);
    a.update_range(*decaying, stream, 0, 37);
    b.update_range(*excluded, stream, 0, 37);
    expect_same_bits(a, b, variant.text());
  }
}

TEST(OptimizerUpdate, CoupledWeightDecayIsPartOfTheGradient) {
  Stream stream = Stream::cpu();
  for (const Variant& variant : every_variant()) {
    if (variant.options.contains("weight_decay")) continue;
    const auto coupled = variant.make({{"weight_decay", 0.125}, {"coupled_weight_decay", 1}});
    const auto plain = variant.make({{"weight_decay", 0}});
    FlatVariables a = trained_variables(*plain, 37), b = a;
    for (size_t i = 0; i < b.grad.size(); ++i) b.grad[i] = b.grad[i] * 0.5f + 0.125f * b.param[i];
    a.prepare(*coupled, stream, 3, 0.25, {.grad_scale = 0.5f});
    b.prepare(*plain, stream, 3, 0.25);
    a.update_range(*coupled, stream, 0, 37);
    b.update_range(*plain, stream, 0, 37);
    expect_same_bits(a, b, variant.text());
  }
}

TEST(OptimizerUpdate, DecaysTheParameterBeforeTheRuleByTheRateOfThisStep) {
  // Decay first: 2 - 0.5 * 0.25 * 2 = 1.75, then the gradient: 1.75 - 0.5 * 1. The optimizer's own rate plays no part.
  const auto sgd = make_optimizer("sgd", {{"learning_rate", 8}, {"weight_decay", 0.25}});
  FlatVariables variables(*sgd, {2});
  variables.grad = {1};
  Stream stream = Stream::cpu();
  variables.prepare(*sgd, stream, 1, 0.5);
  variables.update_range(*sgd, stream, 0, 1);
  EXPECT_THAT(variables.param, ElementsAre(1.25f));
}

TEST(OptimizerUpdate, WeightDecayZeroChangesNoBit) {
  const auto adam = make_optimizer("adam"), adamw = make_optimizer("adamw", {{"weight_decay", 0}});
  FlatVariables a = trained_variables(*adam, 37), b = a;
  a.update(*adam, 2);
  b.update(*adamw, 2);
  expect_same_bits(a, b, "adamw without decay");
}

TEST(OptimizerUpdate, ALearningRateOfZeroOnlyGathersMoments) {
  const auto adamw = make_optimizer("adamw");
  FlatVariables variables(*adamw, {1, -2});
  variables.grad = {3, 4};
  Stream stream = Stream::cpu();
  variables.prepare(*adamw, stream, 1, 0);
  variables.update_range(*adamw, stream, 0, 2);
  EXPECT_THAT(variables.param, ElementsAre(1, -2));
  EXPECT_NEAR(variables.slots[0][0], 0.3f, 1e-7f);
}

TEST(OptimizerUpdate, AnElementThatNeverSawAGradientStays) {
  for (const Variant& variant : every_variant()) {
    const auto rule = variant.make();
    FlatVariables variables(*rule, {0, 0});
    for (int64_t step = 1; step <= 3; ++step) variables.update(*rule, step);
    EXPECT_THAT(variables.param, Each(0)) << variant.text();
  }
}

TEST(OptimizerUpdate, TakesEmptyRanges) {
  for (const Variant& variant : every_variant()) {
    const auto rule = variant.make();
    FlatVariables variables(*rule, {});
    EXPECT_NO_THROW(variables.update(*rule, 1)) << variant.text();
  }
}

std::string message_of(ErrorCode code, const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  return "no error";
}

TEST(OptimizerUpdate, WrongArgumentsAreErrorsThatNameTheCulprit) {
  const auto adam = make_optimizer("adam");
  Stream stream = Stream::cpu();
  std::vector<float> memory(8);
  const auto view = [&](int64_t n, DType dtype = DType::f32) {
    return View{memory.data(), dtype, DeviceKind::cpu, Shape{n}};
  };
  const View four = view(4), five = view(5);
  const auto update = [&](View param, View grad, std::vector<View> slots) {
    return message_of(ErrorCode::internal,
                      [&] { adam->update(stream, StepState{}, {.param = param, .grad = grad, .slots = slots}); });
  };
  EXPECT_THAT(update(four, five, {four, four}), HasSubstr("the gradient to be 4 elements"));
  EXPECT_THAT(update(four, four, {four, five}), HasSubstr("slot velocity to be 4 elements"));
  EXPECT_THAT(update(four, four, {four}), HasSubstr("expected 2 slots, got 1"));
  EXPECT_THAT(update(view(4, DType::f16), four, {four, four}), HasSubstr("got 4 of f16"));
  EXPECT_THAT(memory, Each(0));

  FlatVariables variables(*adam, {1});
  const auto prepare = [&](ErrorCode code, int64_t step, double rate) {
    return message_of(code, [&] { variables.prepare(*adam, stream, step, rate); });
  };
  EXPECT_THAT(prepare(ErrorCode::internal, 0, 0.1), HasSubstr("adam: expected a step from 1"));
  for (const double bad : {-0.1, std::nan(""), HUGE_VAL})
    EXPECT_THAT(prepare(ErrorCode::numbers, 7, bad),
                HasSubstr("expected a learning rate that is finite and not negative"));
}

TEST(OptimizerUpdate, ScalarsThatAreNotHandedInAreErrorsThatNameThem) {
  const auto nadam = make_optimizer("nadam");
  FlatVariables variables(*nadam, {1});
  variables.scalars.clear();
  try {
    variables.update(*nadam, 1);
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("nadam: expected the values of 1 scalars (u_product)"));
  }
}

}  // namespace
}  // namespace lockstep
