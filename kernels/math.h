// SPDX-License-Identifier: Apache-2.0
// exp, log and tanh with the same bits on every backend, compiler and libm. They are polynomials over + - * / only,
// without branches, so that loops vectorise. tests/kernels/math_test.cpp measures errors below 2 ulp (tanh 4 ulp).
//
// The polynomials follow Cephes (S. Moshier, "Methods and Programs for Mathematical Functions", 1989).
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/host_device.h"

namespace lockstep {

// e^x. 0 below -87.3 (results that would be denormal), infinity above 88.7; NaN stays NaN.
HOST_DEVICE inline float exp_f32(float x) {
  constexpr float kLowest = -87.336544f, kHighest = 88.72283f;
  // Adding 1.5 * 2^23 rounds to an integer in the low bits of the mantissa.
  constexpr float kRounder = 12582912.0f;
  const float clamped = x < kLowest ? kLowest : (x > kHighest ? kHighest : x);
  const float shifted = clamped * 1.44269504088896341f + kRounder;
  const float n = shifted - kRounder;
  // ln 2 is split in two, so that n times the first part is exact.
  float r = clamped - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float e = p * (r * r) + r + 1.0f;
  // 2^n is applied in two factors, so that n = 128 does not overflow on the way.
  const int32_t exponent = int32_t(__builtin_bit_cast(uint32_t, shifted) - __builtin_bit_cast(uint32_t, kRounder));
  const int32_t half = exponent >> 1;
  const float scale_a = __builtin_bit_cast(float, uint32_t(half + 127) << 23);
  const float scale_b = __builtin_bit_cast(float, uint32_t(exponent - half + 127) << 23);
  const float result = e * scale_a * scale_b;
  const float infinity = __builtin_bit_cast(float, 0x7f800000u);
  return x < kLowest ? 0.0f : (x > kHighest ? infinity : result);
}

// A number as the sum of two doubles, the second of which holds what the first has rounded away (Dekker 1971).
struct TwoDoubles {
  double high, low;
};
HOST_DEVICE inline TwoDoubles multiply(const TwoDoubles& a, const TwoDoubles& b) {
  const double product = a.high * b.high;
  const double rest = std::fma(a.high, b.high, -product) + (a.high * b.low + a.low * b.high);
  const double high = product + rest;
  return {high, rest - (high - product)};
}

// base^exponent for a base in [0, 1] and a whole exponent of at least 0, by squaring. It only multiplies and takes
// fused multiply-adds: the same bits on every backend. Rounded correctly but for ties nearer than 2^-40 of a digit.
HOST_DEVICE inline double power(double base, int64_t exponent) {
  TwoDoubles result{1, 0}, square{base, 0};
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2 == 1) result = multiply(result, square);
    square = multiply(square, square);
  }
  return result.high;
}

// base^exponent for a normal base of at least 1 and an exponent in [-1000, 0] (results that would be denormal are 0),
// by series over + - * / in double: relative error below 1e-13 times the logarithm of the result.
HOST_DEVICE inline double falling_power(double base, double exponent) {
  constexpr double kLog2High = 6.93147180369123816490e-01, kLog2Low = 1.90821492927058770002e-10;
  // base = m 2^k with m in [sqrt(1/2), sqrt(2));  log m = 2 atanh((m - 1) / (m + 1))
  const uint64_t bits = __builtin_bit_cast(uint64_t, base);
  const uint64_t shifted = bits - 0x3fe6a09e667f3bcdull;
  const double k = double(int64_t(shifted) >> 52);
  const double m = __builtin_bit_cast(double, (shifted & 0x000fffffffffffffull) + 0x3fe6a09e667f3bcdull);
  const double s = (m - 1) / (m + 1), square = s * s;
  double series = 0;
  for (int term = 21; term > 0; term -= 2) series = series * square + 1.0 / term;
  const double y = exponent * (k * kLog2High + (k * kLog2Low + 2 * s * series));
  if (!(y > -708)) return y != y ? y : 0;
  // e^y = 2^n e^r with r in [-log(2) / 2, log(2) / 2]; adding 1.5 * 2^52 rounds to a whole number.
  constexpr double kRounder = 6755399441055744.0;
  const double rounded = y * 1.4426950408889634 + kRounder, n = rounded - kRounder;
  const double r = (y - n * kLog2High) - n * kLog2Low;
  double e = 1;
  for (int term = 14; term > 0; --term) e = e * r / term + 1;
  const int64_t power_of_two = int64_t(n) + 1023;
  return power_of_two <= 0 ? 0 : e * __builtin_bit_cast(double, uint64_t(power_of_two) << 52);
}

// Natural logarithm of a positive normal number; -infinity for 0, NaN below.
HOST_DEVICE inline float log_f32(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  // x = m * 2^e with m in [sqrt(1/2), sqrt(2))
  const uint32_t shifted = bits - 0x3f3504f3u;
  const float e = float(int32_t(shifted) >> 23);
  const float m = __builtin_bit_cast(float, (shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  const float z = m * m;
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  float y = p * m * z;
  y = y + e * -2.12194440e-4f;
  y = y - 0.5f * z;
  const float result = m + y + e * 0.693359375f;
  const float infinity = __builtin_bit_cast(float, 0x7f800000u);
  const float nan = __builtin_bit_cast(float, 0x7fc00000u);
  const float finite_or_special = x == infinity ? infinity : result;
  return x > 0.0f ? finite_or_special : (x == 0.0f ? -infinity : nan);
}

HOST_DEVICE inline float tanh_f32(float x) {
  const float magnitude = x < 0.0f ? -x : x;
  const float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float near_zero = p * z * x + x;
  const float far = 1.0f - 2.0f / (exp_f32(magnitude + magnitude) + 1.0f);
  const float signed_far = x < 0.0f ? -far : far;
  return magnitude < 0.625f ? near_zero : signed_far;
}

}  // namespace lockstep
