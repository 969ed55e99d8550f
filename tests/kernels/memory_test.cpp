// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "kernels/pointwise.h"
#include "kernels/reduction.h"

namespace lockstep {
namespace {

TEST(Pool, CountsTheBytesAskedForByPurpose) {
  Pool pool({});
  {
    const Buffer a(pool, 100, Purpose::activations), b(pool, 7, Purpose::scratch);
    EXPECT_EQ(pool.live(Purpose::activations).now, 100);
    EXPECT_EQ(pool.live(Purpose::scratch).now, 7);
    EXPECT_EQ(pool.live_total(), 107);
  }
  EXPECT_EQ(pool.live_total(), 0);
  EXPECT_EQ(pool.live(Purpose::activations).peak, 100);
}

TEST(Pool, GivesAlignedBlocksThatHoldWhatWasAskedFor) {
  Pool pool({});
  for (int64_t bytes = 0; bytes < 5000; bytes += 61) {
    const Buffer buffer(pool, bytes, Purpose::scratch);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u);
    std::memset(buffer.data(), 0xab, size_t(bytes));  // the address sanitizer watches the end
  }
}

TEST(Pool, HandsABlockOutAgainAfterItCameBack) {
  Pool pool({});
  void* first;
  {
    const Buffer buffer(pool, 1000, Purpose::scratch);
    first = buffer.data();
  }
  const Buffer again(pool, 1000, Purpose::activations);
  EXPECT_EQ(again.data(), first);
}

TEST(Pool, NamesTheBiggestHoldersWhenMemoryRunsOut) {
  Pool pool({});
  const Buffer held(pool, 12'345, Purpose::slots);
  try {
    const Buffer huge(pool, int64_t(1) << 60, Purpose::scratch);
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::device);
    EXPECT_THAT(error.what(), testing::HasSubstr("out of memory on cpu"));
    EXPECT_THAT(error.what(), testing::HasSubstr("slots 12345"));
  }
}

TEST(CountedPool, CountsReusesAndRoundsAsARealOne) {
  Pool real({}), counted = Pool::counted({});
  std::mt19937_64 random(5);
  std::vector<std::pair<Buffer, Buffer>> held;
  for (int i = 0; i < 3000; ++i) {
    if (random() % 5 < 2 && !held.empty()) {
      std::swap(held[random() % held.size()], held.back());
      held.pop_back();
    } else {
      const auto bytes = int64_t(random() % (uint64_t(1) << (random() % 18)));
      held.emplace_back(Buffer(real, bytes, Purpose::activations), Buffer(counted, bytes, Purpose::activations));
    }
    ASSERT_EQ(counted.live(Purpose::activations).now, real.live(Purpose::activations).now);
    ASSERT_EQ(counted.held(), real.held());
    ASSERT_GE(real.held(), real.live_total());
  }
  EXPECT_EQ(counted.live(Purpose::activations).peak, real.live(Purpose::activations).peak);
}

TEST(CountedPool, GivesOutMemoryThatEndsTheProgramWhenTouched) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Pool pool = Pool::counted({});
  const Buffer a(pool, 16, Purpose::activations), b(pool, 16, Purpose::activations);
  const View x = a.view(DType::f32, {4}), y = b.view(DType::f32, {4});
  EXPECT_DEATH(*data<float>(x) = 1, "") << "written";
  EXPECT_DEATH(std::exit(int(*data<float>(y))), "") << "read";
  Stream stream = Stream::cpu();
  EXPECT_DEATH(launch(stream, Unary<Relu>{y, x}), "") << "a kernel that is run by mistake";
}

TEST(RehearsalStream, CountsScratchAndHasNone) {
  Stream real = Stream::cpu(2), rehearsal = Stream::rehearsal(2);
  Pool pool({}), counted = Pool::counted({});
  for (const int64_t rows : {4, 5000, 300}) {
    const auto sum_columns = [rows](Pool& memory, Stream& stream) {
      const Buffer in(memory, rows * 33 * 4, Purpose::data), out(memory, 33 * 4, Purpose::data);
      launch(stream, Fill{in.view(DType::f32, {rows, 33}), 1.0f});
      launch(stream, ColumnSum{out.view(DType::f32, {33}), in.view(DType::f32, {rows, 33})});
    };
    sum_columns(pool, real);
    sum_columns(counted, rehearsal);
    EXPECT_EQ(rehearsal.scratch_bytes(), real.scratch_bytes()) << rows;
  }
  EXPECT_EQ(real.scratch_bytes(), 3 * 33 * 4) << "of 5000 rows in three chunks, kept";
  EXPECT_EQ(rehearsal.scratch(1), nullptr);
}

TEST(DType, RoundsBf16ToNearestEvenAndKeepsNaN) {
  EXPECT_EQ(float(bfloat16(1.0f)), 1.0f);
  EXPECT_EQ(float(bfloat16(1.00390625f)), 1.0f) << "half way goes to the even neighbour";
  EXPECT_EQ(float(bfloat16(1.01171875f)), 1.015625f);
  EXPECT_TRUE(std::isnan(float(bfloat16(NAN))));
  EXPECT_TRUE(std::isinf(float(bfloat16(INFINITY))));
}

TEST(DType, RoundsF16ToNearestEvenAndKeepsNaN) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    float16 half;
    half.bits = uint16_t(bits);
    const int exponent = int(bits >> 10 & 31), mantissa = int(bits & 1023);
    const float sign = bits & 0x8000 ? -1.0f : 1.0f, value = float(half);
    if (exponent == 31) {
      ASSERT_TRUE(mantissa ? std::isnan(value) : value == sign * INFINITY) << bits;
    } else {
      const int whole = exponent ? 1024 + mantissa : mantissa;
      ASSERT_EQ(value, sign * std::ldexp(float(whole), std::max(exponent, 1) - 25)) << bits;
      ASSERT_EQ(float16(value).bits, bits) << "there and back";
      // Half way to the next one goes to the even one of the two; a bit nearer to either goes there.
      if (bits & 0x8000) continue;
      float16 next;
      next.bits = uint16_t(bits + 1);
      const float last = exponent == 30 && mantissa == 1023 ? 65536.0f : float(next), middle = (value + last) / 2;
      ASSERT_EQ(float16(middle).bits, bits + (bits & 1)) << bits;
      ASSERT_EQ(float16(std::nextafter(middle, 0.0f)).bits, bits) << bits;
      ASSERT_EQ(float16(std::nextafter(middle, 1e6f)).bits, bits + 1) << bits;
      ASSERT_EQ(float16(-middle).bits, 0x8000u | (bits + (bits & 1))) << bits;
    }
  }
  EXPECT_TRUE(std::isnan(float(float16(NAN))));
  EXPECT_TRUE(std::isinf(float(float16(1e30f))));
  EXPECT_EQ(float16(1e-30f).bits, 0u);
}

TEST(Shape, TellsAScalarFromAVectorOfOneAndRefusesNegativeSizes) {
  EXPECT_EQ(Shape{}.size(), 1);
  EXPECT_FALSE(Shape{} == Shape{1});
  EXPECT_EQ(Shape({3, 0}).size(), 0);
  EXPECT_THROW(Shape({2, -1}), Error);
  EXPECT_EQ(to_string(Shape{128, 10}), "[128, 10]");
}

}  // namespace
}  // namespace lockstep
