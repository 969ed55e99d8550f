// SPDX-License-Identifier: Apache-2.0
#include "kernels/math.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace lockstep {
namespace {

// Distance from the exact value in units of the last place of the result.
double ulps(float actual, double exact) {
  const float nearest = float(exact);
  const double unit = double(std::nextafter(std::abs(nearest), INFINITY)) - double(std::abs(nearest));
  return std::abs(double(actual) - exact) / unit;
}

template <class F, class G>
double worst(float low, float high, F approximate, G exact) {
  double most = 0;
  constexpr int kSteps = 400'000;
  for (int i = 0; i <= kSteps; ++i) {
    const float x = low + (high - low) * (float(i) / kSteps);
    most = std::max(most, ulps(approximate(x), exact(double(x))));
  }
  return most;
}

TEST(Math, ExpIsGoodToTwoUnits) {
  EXPECT_LT(worst(-87.0f, 88.5f, exp_f32, [](double x) { return std::exp(x); }), 2.0);
  EXPECT_LT(worst(-1.0f, 1.0f, exp_f32, [](double x) { return std::exp(x); }), 2.0);
}

TEST(Math, LogIsGoodToTwoUnits) {
  EXPECT_LT(worst(1e-30f, 1.0f, log_f32, [](double x) { return std::log(x); }), 2.0);
  EXPECT_LT(worst(1.0f, 1000.0f, log_f32, [](double x) { return std::log(x); }), 2.0);
  EXPECT_LT(worst(1e30f, 3e38f, log_f32, [](double x) { return std::log(x); }), 2.0);
}

TEST(Math, TanhIsGoodToFourUnits) {
  EXPECT_LT(worst(-12.0f, 12.0f, tanh_f32, [](double x) { return std::tanh(x); }), 4.0);
  EXPECT_LT(worst(-0.7f, 0.7f, tanh_f32, [](double x) { return std::tanh(x); }), 4.0);
}

TEST(Math, FallingPowerIsGoodToThirteenDigits) {
  for (const double exponent : {-1e-3, -0.5, -0.65, -0.8, -1.0, -2.5, -7.0})
    for (double base = 1; base < 1e15; base = std::floor(base * 1.37 + 1)) {
      const double exact = std::pow(base, exponent);
      EXPECT_NEAR(falling_power(base, exponent), exact, 1e-13 * exact * (1 + std::abs(std::log(exact))))
          << base << " " << exponent;
    }
  EXPECT_EQ(falling_power(1, -0.8), 1);
  EXPECT_EQ(falling_power(7, 0), 1);
  EXPECT_EQ(falling_power(1e10, -1000), 0);
}

TEST(Math, KeepsTheEdges) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp_f32(0.0f), 1.0f);
  EXPECT_EQ(exp_f32(-infinity), 0.0f);
  EXPECT_EQ(exp_f32(infinity), infinity);
  EXPECT_EQ(exp_f32(89.0f), infinity);
  EXPECT_TRUE(std::isnan(exp_f32(NAN)));
  EXPECT_EQ(log_f32(1.0f), 0.0f);
  EXPECT_EQ(log_f32(0.0f), -infinity);
  EXPECT_EQ(log_f32(infinity), infinity);
  EXPECT_TRUE(std::isnan(log_f32(-1.0f)));
  EXPECT_TRUE(std::isnan(log_f32(NAN)));
  EXPECT_EQ(tanh_f32(0.0f), 0.0f);
  EXPECT_EQ(tanh_f32(50.0f), 1.0f);
  EXPECT_EQ(tanh_f32(-50.0f), -1.0f);
  EXPECT_TRUE(std::isnan(tanh_f32(NAN)));
}

}  // namespace
}  // namespace lockstep
