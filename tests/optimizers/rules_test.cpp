// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "optimizers/rules/adam.h"
#include "optimizers/rules/ftrl.h"
#include "optimizers/rules/lion.h"
#include "optimizers/rules/nadam.h"
#include "optimizers/rules/rmsprop.h"
#include "optimizers/rules/schedule_free_adamw.h"
#include "optimizers/rules/sgd.h"

namespace lockstep {
namespace {

TEST(Sgd, MovesAgainstTheGradient) {
  float param = 1;
  Sgd{}.at(1, 0.5)(param, 3);
  EXPECT_EQ(param, -0.5f);
}

TEST(SgdMomentum, KeepsTheLearningRateInsideTheMomentum) {
  const SgdMomentum rule{.momentum = 0.5};
  float param = 1, velocity = 0;
  rule.at(1, 0.25)(param, 1, velocity);
  EXPECT_EQ(velocity, -0.25f);
  EXPECT_EQ(param, 0.75f);
  rule.at(2, 0)(param, 1, velocity);  // the rate fell to zero: what was remembered still moves
  EXPECT_EQ(velocity, -0.125f);
  EXPECT_EQ(param, 0.625f);
}

TEST(SgdNesterov, LooksOneMomentumStepAhead) {
  const SgdNesterov rule{.momentum = 0.5};
  float param = 1, velocity = 0;
  rule.at(1, 0.25)(param, 1, velocity);
  EXPECT_EQ(velocity, -0.25f);
  EXPECT_EQ(param, 0.625f);
}

TEST(SgdMomentum, PyTorchsHasTheLearningRateOutside) {
  const SgdMomentum rule{.momentum = 0.5, .definition = FormulaStyle::torch};
  float param = 1, velocity = 0;
  rule.at(1, 0.25)(param, 1, velocity);
  EXPECT_EQ(velocity, -1);
  EXPECT_EQ(param, 0.75f);
  rule.at(2, 0)(param, 1, velocity);  // the rate fell to zero: nothing moves
  EXPECT_EQ(velocity, -1.5f);
  EXPECT_EQ(param, 0.75f);
}

TEST(Adam, FirstStepMovesByTheLearningRate) {
  // With both moments zero, bias correction makes the first step as long as the rate, for a gradient of any size.
  for (const float grad : {1e-3f, 0.5f, 1e3f}) {
    float param = 1, m = 0, v = 0;
    Adam{{.epsilon = 1e-30}}.at(1, 0.25)(param, grad, m, v);
    EXPECT_NEAR(param, 0.75f, 2e-7f) << grad;
  }
}

TEST(Adam, EpsilonStandsOutsideRootAndBiasCorrection) {
  // v = 0.25 g^2 and sqrt(1 - b2) = 0.5: the step is a / 2 * m / (g / 2 + epsilon) * 2.
  float param = 0, m = 0, v = 0;
  Adam{{.beta_1 = 0.5, .beta_2 = 0.75, .epsilon = 0.5}}.at(1, 1)(param, 1, m, v);
  EXPECT_EQ(m, 0.5f);
  EXPECT_EQ(v, 0.25f);
  EXPECT_EQ(param, -0.5f);  // inside the root it were -0.577, inside the correction -0.667
  float v_hat = 0;
  param = m = v = 0;
  AdamAmsgrad{{.beta_1 = 0.5, .beta_2 = 0.75, .epsilon = 0.5}}.at(1, 1)(param, 1, m, v, v_hat);
  EXPECT_EQ(param, -0.5f);
}

TEST(AdamAmsgrad, DividesByTheLargestSecondMomentSoFar) {
  const AdamAmsgrad rule{{.beta_1 = 0, .beta_2 = 0.5, .epsilon = 1e-30}};
  float param = 0, m = 0, v = 0, v_hat = 0;
  rule.at(1, 1)(param, 4, m, v, v_hat);
  EXPECT_EQ(v_hat, 8);
  rule.at(2, 1)(param, 0, m, v, v_hat);
  EXPECT_EQ(v, 4);
  EXPECT_EQ(v_hat, 8);
}

// The step size in extended precision.
float exact_rate(const AdamHyperparameters& adam, int64_t step, double learning_rate) {
  using Real = long double;
  const Real rest_1 = 1 - std::pow(Real(adam.beta_1), Real(step)), rest_2 = 1 - std::pow(Real(adam.beta_2), Real(step));
  return float(learning_rate * std::sqrt(rest_2) / rest_1);
}

TEST(Adam, BiasCorrectionIsExactToTheLastBitOfAFloat) {
  const AdamHyperparameters adam;
  for (int64_t step = 1; step < 20000; step += 1 + step / 8)
    EXPECT_EQ(adam.at(step, 1e-3).rate, exact_rate(adam, step, 1e-3)) << step;
}

TEST(Adam, StepsBeyondTheReachOfFloatAndOf32BitsCount) {
  // Betas so close to one that the correction has not died out, and learning rates that put the borders between
  // floats at many places: a counter that stalls at 2^24 or wraps at 2^31 is seen.
  const AdamHyperparameters adam{.beta_1 = 1 - 0x1p-36, .beta_2 = 0};
  const int64_t stall = int64_t(1) << 24, wrap = int64_t(1) << 31;
  int differing = 0;
  for (int i = 0; i < 200; ++i) {
    const double rate = 1e-3 + i * 1e-11;
    const float next = adam.at(stall + 1, rate).rate;
    EXPECT_EQ(next, exact_rate(adam, stall + 1, rate));
    differing += next != adam.at(stall, rate).rate;
    EXPECT_EQ(adam.at(wrap, rate).rate, exact_rate(adam, wrap, rate));
  }
  EXPECT_GT(differing, 20);
  for (const int64_t step : {stall + 1, wrap, int64_t(1) << 53})
    EXPECT_EQ(AdamHyperparameters{}.at(step, 1e-3).rate, 1e-3f);
}

TEST(Adam, ConstantsAreRoundedOnceFromDouble) {
  const AdamConstants c = AdamHyperparameters{}.at(1, 1e-3);
  EXPECT_EQ(c.one_minus_beta_1, float(1 - 0.9));
  EXPECT_EQ(c.one_minus_beta_2, float(1 - 0.999));
  EXPECT_NE(c.one_minus_beta_2, 1 - float(0.999));
}

TEST(Adam, PyTorchsEpsilonNeverVanishes) {
  const AdamHyperparameters adam{.beta_2 = 1 - 0x1p-50, .epsilon = 2e-38, .definition = FormulaStyle::torch};
  EXPECT_GT(adam.at(1, 1).epsilon, 0);
}

TEST(RmspropCentered, AVarianceThatRoundsBelowZeroIsZero) {
  // Mean and mean square as rounding leaves them after a constant gradient of 1000.
  const RmspropCentered rule{{.rho = 0.9, .epsilon = 1e-7}};
  float param = 0, v = 999999, mean = 1000;
  rule.at(1, 1)(param, 1000, v, mean);
  EXPECT_TRUE(std::isfinite(param)) << param;
}

TEST(Nadam, KeepsTheProductOfItsMomentaInTheScalar) {
  const Nadam nadam;
  double product = 1;
  std::vector<double> state = {1};
  for (int64_t step = 1; step <= 5; ++step) {
    nadam.advance(step, 1e-3, state);
    product *= 0.9 * (1 - 0.5 * std::pow(0.96, double(step)));
    EXPECT_DOUBLE_EQ(state[0], product);
  }
}

TEST(Ftrl, ALearningRateOfZeroChangesNothing) {
  float param = 3, accumulator = 0.1f, linear = 0.5f;
  for (const double rate : {0.0, 1e-320, 1e-42}) Ftrl{}.at(1, rate)(param, 2, accumulator, linear);
  EXPECT_EQ(param, 3);
  EXPECT_EQ(accumulator, 0.1f);
  EXPECT_EQ(linear, 0.5f);
}

TEST(Ftrl, SmallGradientsLeaveTheParameterAtZeroUnderL1) {
  const Ftrl rule{.hyperparameters = {.l1 = 1}, .power = {}};
  float param = 0, accumulator = 0.1f, linear = 0;
  rule.at(1, 0.5)(param, 0.75f, accumulator, linear);
  EXPECT_EQ(param, 0);
  rule.at(2, 0.5)(param, 0.75f, accumulator, linear);
  EXPECT_LT(param, 0);
}

TEST(Ftrl, AnyPowerOfOneHalfIsTheSquareRoot) {
  const FtrlAnyPower any{.hyperparameters = {.l2 = 0.1}, .power = {.exponent = 0.5f}};
  const Ftrl root{.hyperparameters = {.l2 = 0.1}, .power = {}};
  float a = 1, accumulator_a = 0.1f, linear_a = 0, b = 1, accumulator_b = 0.1f, linear_b = 0;
  for (int step = 1; step <= 20; ++step) {
    const float grad = std::sin(float(step));
    any.at(step, 0.5)(a, grad, accumulator_a, linear_a);
    root.at(step, 0.5)(b, grad, accumulator_b, linear_b);
    EXPECT_NEAR(a, b, 4e-6f) << step;
  }
}

TEST(Ftrl, PowersOfTheAccumulatorAreCloseToThoseOfTheLibrary) {
  for (const float exponent : {0.0f, 0.25f, 0.4f, 1.0f, 2.0f})
    for (const float n : {1e-15f, 0.1f, 1.0f, 7.5f, 1e6f})
      EXPECT_NEAR(AnyPower{exponent}(n) / std::pow(double(n), double(exponent)), 1, 2e-5) << n << "^" << exponent;
  EXPECT_EQ(AnyPower{0.5f}(0), 0);
  EXPECT_EQ(AnyPower{0}(0), 1);
}

TEST(Lion, MovesByTheRateWhateverTheSizeOfTheGradient) {
  for (const float grad : {1e-20f, 0.5f, 1e20f}) {
    float param = 1, m = 0;
    Lion{}.at(1, 0.25)(param, grad, m);
    EXPECT_EQ(param, 0.75f);
    Lion{}.at(2, 0.25)(param, -1e3f * grad, m);
    EXPECT_EQ(param, 1);
  }
  float param = 1, m = 0;
  Lion{}.at(1, 0.25)(param, 0, m);
  EXPECT_EQ(param, 1);
}

TEST(ScheduleFreeAdamW, WarmupShortensTheFirstSteps) {
  float plain = 1, warm = 1, z_plain = 1, z_warm = 1, v_plain = 0, v_warm = 0;
  ScheduleFreeAdamW{}.at(1, 0.5)(plain, 1, z_plain, v_plain);
  ScheduleFreeAdamW{.warmup_steps = 10}.at(1, 0.5)(warm, 1, z_warm, v_warm);
  EXPECT_NEAR(plain, 0.500000005, 1e-7);
  EXPECT_NEAR(warm, 0.9500000005, 1e-7);
}

TEST(ScheduleFreeAdamW, AnElementThatNeverSawAGradientKeepsItsBitsForAnyStep) {
  for (const int64_t step : {int64_t(1), int64_t(1) << 24, int64_t(1) << 40}) {
    float param = 0.1f, z = 0.1f, v = 0;
    ScheduleFreeAdamW{}.at(step, 0.5)(param, 0, z, v);
    EXPECT_EQ(param, 0.1f) << step;
    EXPECT_EQ(z, 0.1f) << step;
  }
}

}  // namespace
}  // namespace lockstep
