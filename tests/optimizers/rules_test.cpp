// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cmath>
#include <cstdint>

#include "optimizers/adam.h"
#include "optimizers/sgd.h"

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

}  // namespace
}  // namespace lockstep
