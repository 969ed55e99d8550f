// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/sample_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "tests/support/files.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<int64_t> shuffled(uint64_t seed, int64_t epoch, int64_t count) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  shuffle_samples(seed, epoch, order);
  return order;
}

// FNV-1a over the numbers themselves, short enough to be written again in any language.
uint64_t fingerprint(const std::vector<int64_t>& order) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const int64_t sample : order) hash = (hash ^ uint64_t(sample)) * 0x100000001b3u;
  return hash;
}

TEST(SampleOrder, IsAPermutation) {
  for (const int64_t count : {0, 1, 2, 3, 10, 127, 60000}) {
    std::vector<int64_t> order = shuffled(3, 5, count);
    std::vector<int64_t> all(order.size());
    std::iota(all.begin(), all.end(), 0);
    std::ranges::sort(order);
    EXPECT_EQ(order, all);
  }
}

// The expected numbers come from a second implementation, in Python integers.
TEST(SampleOrder, IsTheOneWrittenDown) {
  EXPECT_THAT(shuffled(0, 0, 10), ElementsAre(0, 3, 9, 4, 2, 6, 8, 7, 5, 1));
  EXPECT_EQ(fingerprint(shuffled(0, 0, 60000)), 0xd95b3499ec24e779u);
  EXPECT_THAT(shuffled(0, 1, 10), ElementsAre(8, 0, 1, 5, 6, 9, 2, 3, 4, 7));
  EXPECT_EQ(fingerprint(shuffled(0, 1, 60000)), 0x821fcb5b7df8e017u);
  EXPECT_THAT(shuffled(1, 0, 10), ElementsAre(7, 4, 8, 9, 5, 1, 2, 0, 6, 3));
  EXPECT_EQ(fingerprint(shuffled(1, 0, 60000)), 0x9ba9c80186141c63u);
  EXPECT_THAT(shuffled(~uint64_t(0), (int64_t(1) << 48) - 1, 10), ElementsAre(9, 2, 5, 8, 3, 1, 4, 6, 7, 0));
  EXPECT_EQ(fingerprint(shuffled(~uint64_t(0), (int64_t(1) << 48) - 1, 60000)), 0xc7315346de5af507u);
}

TEST(SampleOrder, DiffersByEpochAndBySeed) {
  const auto base = shuffled(7, 0, 1000);
  EXPECT_EQ(base, shuffled(7, 0, 1000));
  EXPECT_NE(base, shuffled(7, 1, 1000));
  EXPECT_NE(base, shuffled(8, 0, 1000));
  EXPECT_NE(base, shuffled(7 + (uint64_t(1) << 32), 0, 1000));
  EXPECT_NE(shuffled(7, 1, 1000), shuffled(8, 0, 1000));
}

TEST(SampleOrder, PutsEachSampleAtEachPlaceEquallyOften) {
  constexpr int64_t kSamples = 6, kEpochs = 60'000;
  int64_t hits[kSamples][kSamples] = {};
  for (int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    const auto order = shuffled(11, epoch, kSamples);
    for (int64_t place = 0; place < kSamples; ++place) ++hits[place][order[size_t(place)]];
  }
  // Chi-squared with 25 degrees of freedom: above 60 once in ten thousand seeds.
  double chi_squared = 0;
  constexpr double kExpected = double(kEpochs) / kSamples;
  for (const auto& row : hits)
    for (const int64_t hit : row) chi_squared += (double(hit) - kExpected) * (double(hit) - kExpected) / kExpected;
  EXPECT_LT(chi_squared, 60.0);
}

TEST(SampleOrder, RefusesAnEpochThatDoesNotFitItsCounter) {
  EXPECT_THAT(error_of([] { shuffled(0, -1, 4); }), HasSubstr("got -1"));
  EXPECT_THAT(error_of([] { shuffled(0, int64_t(1) << 48, 4); }), HasSubstr("2^48 - 1"));
}

TEST(BatchPlace, KeepsTheLastPartialBatchOfAnEpoch) {
  EXPECT_EQ(steps_per_epoch(10, 4), 3);
  EXPECT_EQ(steps_per_epoch(8, 4), 2);
  EXPECT_EQ(steps_per_epoch(3, 4), 1);
  EXPECT_EQ(batch_at(0, 10, 4).positions, (SampleRange{0, 4}));
  EXPECT_EQ(batch_at(2, 10, 4).positions, (SampleRange{8, 10}));
  EXPECT_EQ(batch_at(2, 10, 4).epoch, 0);
  EXPECT_EQ(batch_at(3, 10, 4).positions, (SampleRange{0, 4}));
  EXPECT_EQ(batch_at(3, 10, 4).epoch, 1);
  EXPECT_EQ(batch_at(5, 3, 4).positions, (SampleRange{0, 3}));
  EXPECT_EQ(batch_at(5, 3, 4).epoch, 5);
}

TEST(BatchPlace, CoversEachEpochOnce) {
  for (const int64_t samples : {1, 7, 60, 61}) {
    for (const int64_t batch : {1, 6, 60, 100}) {
      int64_t covered = 0;
      for (int64_t step = 0; step < 2 * steps_per_epoch(samples, batch); ++step) {
        const BatchPlace place = batch_at(step, samples, batch);
        EXPECT_EQ(place.epoch * samples + place.positions.begin, covered);
        covered += place.positions.count();
      }
      EXPECT_EQ(covered, 2 * samples);
    }
  }
}

TEST(BatchPlace, RefusesSizesBelowOne) {
  EXPECT_THAT(error_of([] { steps_per_epoch(0, 4); }), HasSubstr("at least 1, got 0 and 4"));
  EXPECT_THAT(error_of([] { steps_per_epoch(4, 0); }), HasSubstr("at least 1, got 4 and 0"));
}

TEST(PartRange, CutsABatchWithoutGapIntoNearlyEqualParts) {
  EXPECT_EQ(part_range(128, 8, 3), (SampleRange{48, 64}));
  EXPECT_EQ(part_range(10, 4, 0), (SampleRange{0, 2}));
  EXPECT_EQ(part_range(10, 4, 1), (SampleRange{2, 5}));
  EXPECT_EQ(part_range(10, 4, 3), (SampleRange{7, 10}));
  for (const int64_t count : {0, 1, 5, 96, 128}) {
    for (const int64_t parts : {1, 3, 8, 24}) {
      int64_t end = 0;
      for (int64_t part = 0; part < parts; ++part) {
        const SampleRange range = part_range(count, parts, part);
        EXPECT_EQ(range.begin, end);
        EXPECT_GE(range.count(), count / parts);
        EXPECT_LE(range.count(), count / parts + 1);
        end = range.end;
      }
      EXPECT_EQ(end, count);
    }
  }
}

}  // namespace
}  // namespace lockstep
