// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

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

TEST(DType, RoundsBf16ToNearestEvenAndKeepsNaN) {
  EXPECT_EQ(float(bfloat16(1.0f)), 1.0f);
  EXPECT_EQ(float(bfloat16(1.00390625f)), 1.0f) << "half way goes to the even neighbour";
  EXPECT_EQ(float(bfloat16(1.01171875f)), 1.015625f);
  EXPECT_TRUE(std::isnan(float(bfloat16(NAN))));
  EXPECT_TRUE(std::isinf(float(bfloat16(INFINITY))));
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
