// SPDX-License-Identifier: Apache-2.0
// Rounding to one of two neighbours, right in the mean, and noise that depends on seed, step and element alone.
#include "kernels/stochastic_rounding.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "kernels/device/memory.h"
#include "kernels/device/transfer.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

float from_bits(uint32_t bits) { return __builtin_bit_cast(float, bits); }
uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }

TEST(StochasticRounding, LeavesWhatBf16HoldsWhateverTheNoise) {
  for (uint32_t high = 0; high < 0x10000; ++high) {
    const float x = from_bits(high << 16);
    for (const uint32_t noise : {0u, 1u, 0x8000u, 0xffffu}) {
      const float y = round_stochastically(x, noise);
      ASSERT_TRUE(std::isnan(x) ? std::isnan(y) : bits_of(x) == bits_of(y)) << std::hex << high << " " << noise;
    }
  }
}

TEST(StochasticRounding, TakesOneOfTheTwoNeighbours) {
  for (const float x : {1.0001f, -1.0001f, 3.14159f, 1e-39f, -7e37f, 0x1.fffffep0f}) {
    const float toward_zero = from_bits(bits_of(x) & 0xffff0000u),
                away = from_bits((bits_of(x) & 0xffff0000u) + 0x10000u);
    EXPECT_EQ(round_stochastically(x, 0), toward_zero);
    EXPECT_EQ(round_stochastically(x, 0xffff), away);
    // Up for as many of the 2^16 noises as the part that falls off says.
    int ups = 0;
    for (uint32_t noise = 0; noise < 0x10000; ++noise) ups += round_stochastically(x, noise) == away;
    EXPECT_EQ(ups, int(bits_of(x) & 0xffffu)) << x;
  }
}

TEST(StochasticRounding, KeepsInfinityAndNaN) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(round_stochastically(infinity, 0xffff), infinity);
  EXPECT_EQ(round_stochastically(-infinity, 0xffff), -infinity);
  // A NaN whose only bits are among those that fall off must not become infinity.
  for (const uint32_t nan : {0x7f800001u, 0xff80ffffu, 0x7fffffffu})
    for (const uint32_t noise : {0u, 0xffffu})
      EXPECT_TRUE(std::isnan(float(bfloat16(round_stochastically(from_bits(nan), noise))))) << std::hex << nan;
}

std::vector<uint32_t> noise_of(uint64_t seed, int64_t step, int64_t first, int64_t n) {
  const uint64_t key = rounding_key(seed, step);
  const GranuleNoise noise{&key, first, nullptr, nullptr};
  std::vector<uint32_t> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(noise.load(i));
  return values;
}

TEST(StochasticRounding, DrawsNoiseThatIsUniformAndDiffersBySeedStepAndElement) {
  // Chi-square over 64 cells of equal size; 63 degrees of freedom have a mean of 63 and a deviation of 11.
  const auto chi_square = [](const std::vector<uint32_t>& noise, auto cell_of) {
    std::array<double, 64> cells{};
    for (size_t i = 0; i < noise.size(); ++i) ++cells[cell_of(i)];
    double sum = 0;
    const double expected = double(noise.size()) / 64;
    for (const double count : cells) sum += (count - expected) * (count - expected) / expected;
    return sum;
  };
  const std::vector<uint32_t> one = noise_of(1, 1, 0, 1 << 18), next = noise_of(1, 2, 0, 1 << 18);
  for (const uint32_t value : one) ASSERT_LT(value, 0x10000u);
  EXPECT_LT(chi_square(one, [&](size_t i) { return one[i] >> 10; }), 130);
  EXPECT_LT(chi_square(one, [&](size_t i) { return one[i] & 63; }), 130) << "the low bits too";
  // Pairs: an element and its neighbour, an element in two steps, and the same lanes of two granules.
  EXPECT_LT(chi_square(one, [&](size_t i) { return (one[i] >> 13 << 3) | (one[(i + 1) % one.size()] >> 13); }), 130);
  EXPECT_LT(chi_square(one, [&](size_t i) { return (one[i] >> 13 << 3) | (next[i] >> 13); }), 130);
  EXPECT_LT(chi_square(one, [&](size_t i) { return (one[i] >> 13 << 3) | (one[(i + 32) % one.size()] >> 13); }), 130);
  std::set<std::vector<uint32_t>> different{noise_of(1, 1, 0, 32), noise_of(2, 1, 0, 32), noise_of(1, 2, 0, 32),
                                            noise_of(1, 1, 1, 32), noise_of(1, 1, int64_t(1) << 32, 32)};
  EXPECT_EQ(different.size(), 5u) << "granules beyond 2^32 too";
}

TEST(StochasticRounding, IsRightInTheMean) {
  constexpr int kSteps = 4096;
  for (const float x : {1.001f, -0.3f, 100.25f, 3e-5f}) {
    double sum = 0;
    for (int step = 1; step <= kSteps; ++step) sum += double(round_stochastically(x, noise_of(7, step, 3, 1)[0]));
    const double place = std::abs(double(x)) * 0x1p-7;  // of two neighbours, at most so far apart
    EXPECT_NEAR(sum / kSteps, double(x), 5 * 0.5 * place / std::sqrt(kSteps)) << x;
  }
}

TEST(StochasticRounding, NoiseFollowsTheNumberOfAGranuleWhereverItLies) {
  const uint64_t key = rounding_key(3, 9);
  const std::vector<uint32_t> variable_of = {1, 1, 0};
  // Variable 0 has granule 0 and variable 1 granules 1 and 2, but lies first: numbers less places.
  const std::vector<int64_t> numbers = {0 - 2, 1 - 0};
  const GranuleNoise arena{&key, 0, variable_of.data(), numbers.data()}, plain{&key, 0, nullptr, nullptr};
  const GranuleNoise second{&key, 1, variable_of.data() + 1, numbers.data()};
  for (int64_t lane = 0; lane < kGranule; ++lane) {
    EXPECT_EQ(arena.load(lane), plain.load(32 + lane));
    EXPECT_EQ(arena.load(32 + lane), plain.load(64 + lane));
    EXPECT_EQ(arena.load(64 + lane), plain.load(lane));
    EXPECT_EQ(second.load(lane), arena.load(32 + lane)) << "an array that begins in the middle";
  }
}

// What files and ledgers depend on: a run that is taken up again must draw what the first one would have drawn.
// Computed by another program.
TEST(StochasticRounding, DrawsTheNumbersItHasAlwaysDrawn) {
  EXPECT_EQ(rounding_key(1, 1), 4274931238940856448u);
  EXPECT_EQ(noise_of(1, 1, 0, 4), (std::vector<uint32_t>{43308, 39971, 36706, 57368}));
}

TEST(StochasticRounding, HasTheBitsOfTheCpuOnAGpuAlsoWhereNothingIsAligned) {
  LOCKSTEP_NEEDS_GPU();
  for (const int64_t n : {1, 7, 8, 31, 33, 1000, 70'001})
    for (const int64_t offset : {0, 1}) {
      std::vector<float> values;
      for (int64_t i = 0; i < n; ++i) values.push_back(std::sin(float(i)) * 3);
      std::vector<std::vector<uint16_t>> results;
      for (const DeviceKind kind : {DeviceKind::cpu, DeviceKind::cuda}) {
        Stream stream = kind == DeviceKind::cpu ? Stream::cpu(2) : Stream::cuda(0);
        Pool pool(stream.device());
        const uint64_t key = rounding_key(11, 5);
        Buffer in(pool, (n + offset) * 4, Purpose::data), out(pool, (n + offset) * 2, Purpose::data);
        Buffer on_device(pool, 8, Purpose::data);
        const View from = slice(in.view(DType::f32, {n + offset}), offset, n + offset);
        const View to = slice(out.view(DType::bf16, {n + offset}), offset, n + offset);
        copy(stream, from.data, values.data(), n * 4);
        copy(stream, on_device.data(), &key, 8);
        launch(stream, RoundStochastically{to, from, static_cast<const uint64_t*>(on_device.data()), 17});
        results.emplace_back(size_t(n));
        copy(stream, results.back().data(), to.data, n * 2);
        stream.synchronize();
      }
      EXPECT_EQ(results[0], results[1]) << n << " at " << offset;
    }
}

}  // namespace
}  // namespace lockstep
