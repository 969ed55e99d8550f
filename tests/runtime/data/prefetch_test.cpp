// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/prefetch.h"

#include <chrono>
#include <numeric>
#include <set>

#include "runtime/data/sample_order.h"
#include "tests/support/files.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

// Each pixel tells its sample and place, as far as a byte can.
Images numbered_images(int64_t count, int64_t height = 3, int64_t width = 5) {
  Images images{count, height, width, {}, {}, 10};
  images.pixels.resize(size_t(count * height * width));
  std::iota(images.pixels.begin(), images.pixels.end(), uint8_t(0));
  for (int64_t i = 0; i < count; ++i) images.labels.push_back(uint8_t(i % 10));
  return images;
}

void expect_true_copy(const Images& images, const ImagePart& part) {
  ASSERT_EQ(int64_t(part.samples.size()), part.count);
  ASSERT_EQ(int64_t(part.labels.size()), part.count);
  ASSERT_EQ(int64_t(part.images.size()), part.count * images.pixels_each());
  for (int64_t i = 0; i < part.count; ++i) {
    const int64_t sample = part.samples[size_t(i)];
    EXPECT_EQ(part.labels[size_t(i)], images.labels[size_t(sample)]);
    for (int64_t p = 0; p < images.pixels_each(); ++p)
      EXPECT_EQ(part.images[size_t(i * images.pixels_each() + p)],
                float(double(images.pixels[size_t(sample * images.pixels_each() + p)]) / 255.0));
  }
}

// The samples of all steps, in the order of the parts.
std::vector<std::vector<int64_t>> samples_of(const Images& images, const LoaderSettings& settings,
                                             std::vector<uint64_t>* hashes = nullptr) {
  BatchLoader loader(images, settings);
  std::vector<std::vector<int64_t>> steps;
  for (int64_t step = 0; step < settings.steps; ++step) {
    const ImageBatch& batch = loader.next();
    if (hashes) hashes->push_back(batch.data_hash);
    steps.emplace_back();
    for (const ImagePart& part : batch.parts)
      steps.back().insert(steps.back().end(), part.samples.begin(), part.samples.end());
  }
  return steps;
}

TEST(BatchLoader, HandsOutTheStepsInOrderWithTrueCopies) {
  const Images images = numbered_images(50);
  const LoaderSettings settings{.batch = 8, .steps = 20, .seed = 3, .virtual_ranks = 4, .end_part = 4};
  BatchLoader loader(images, settings);
  for (int64_t step = 0; step < 20; ++step) {
    const ImageBatch& batch = loader.next();
    EXPECT_EQ(batch.step, step);
    EXPECT_EQ(batch.epoch, step / 7);
    EXPECT_EQ(batch.global_count, step % 7 == 6 ? 2 : 8);
    ASSERT_EQ(batch.parts.size(), 4u);
    int64_t count = 0;
    for (int64_t part = 0; part < 4; ++part) {
      EXPECT_EQ(batch.parts[size_t(part)].number, part);
      expect_true_copy(images, batch.parts[size_t(part)]);
      count += batch.parts[size_t(part)].count;
    }
    EXPECT_EQ(count, batch.global_count);
  }
}

TEST(BatchLoader, GivesTheNearestFloatToEveryPixelValue) {
  Images images = numbered_images(1, 16, 16);
  BatchLoader loader(images, {.batch = 1, .steps = 1});
  expect_true_copy(images, loader.next().parts[0]);
}

TEST(BatchLoader, FollowsTheOrderOfSeedAndEpoch) {
  const Images images = numbered_images(10);
  const auto steps = samples_of(images, {.batch = 10, .steps = 3, .seed = 9, .virtual_ranks = 4, .end_part = 4});
  std::vector<int64_t> order(10);
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    shuffle_samples(9, epoch, order);
    EXPECT_EQ(steps[size_t(epoch)], order);
  }
}

TEST(BatchLoader, KeepsTheDataSetsOrderWithoutShuffling) {
  const auto steps = samples_of(numbered_images(5), {.batch = 3, .steps = 4, .shuffle = false});
  EXPECT_EQ(steps, (std::vector<std::vector<int64_t>>{{0, 1, 2}, {3, 4}, {0, 1, 2}, {3, 4}}));
}

TEST(BatchLoader, SplitsTheSameBatchOverAnyNumberOfRanks) {
  const Images images = numbered_images(53);
  LoaderSettings settings{.batch = 16, .steps = 9, .seed = 1, .virtual_ranks = 8, .end_part = 8};
  std::vector<uint64_t> hashes;
  const auto whole = samples_of(images, settings, &hashes);
  for (const int64_t ranks : {2, 3, 5, 8}) {
    std::vector<std::vector<int64_t>> joined(whole.size());
    for (int64_t rank = 0; rank < ranks; ++rank) {
      settings.first_part = rank * 8 / ranks;
      settings.end_part = (rank + 1) * 8 / ranks;
      std::vector<uint64_t> rank_hashes;
      const auto part = samples_of(images, settings, &rank_hashes);
      for (size_t step = 0; step < part.size(); ++step)
        joined[step].insert(joined[step].end(), part[step].begin(), part[step].end());
      EXPECT_EQ(rank_hashes, hashes);
    }
    EXPECT_EQ(joined, whole) << ranks << " ranks";
  }
  EXPECT_EQ(std::set(hashes.begin(), hashes.end()).size(), hashes.size());
}

TEST(BatchLoader, AgreesWhateverTheDepth) {
  const Images images = numbered_images(20);
  LoaderSettings settings{.batch = 6, .steps = 30, .seed = 5, .virtual_ranks = 2, .end_part = 2, .prefetch = 1};
  const auto expected = samples_of(images, settings);
  for (const int64_t depth : {2, 3, 7, 100}) {
    settings.prefetch = depth;
    EXPECT_EQ(samples_of(images, settings), expected);
  }
}

TEST(BatchLoader, LeavesTheBatchInUseAloneAndReusesItsMemory) {
  const Images images = numbered_images(64);
  BatchLoader loader(images, {.batch = 8, .steps = 40, .prefetch = 2});
  std::set<const float*> blocks;
  for (int64_t step = 0; step < 40; ++step) {
    const ImageBatch& batch = loader.next();
    // Long enough for the thread to overwrite what it should not.
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(batch.step, step);
    expect_true_copy(images, batch.parts[0]);
    EXPECT_EQ(uintptr_t(batch.parts[0].images.data()) % 64, 0u);
    EXPECT_EQ(uintptr_t(batch.parts[0].labels.data()) % 64, 0u);
    blocks.insert(batch.parts[0].images.data());
  }
  EXPECT_EQ(blocks.size(), 3u);
}

TEST(BatchLoader, StopsAtAnyMoment) {
  const Images images = numbered_images(2000, 28, 28);
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t taken = 0; taken < 40; ++taken) {
    BatchLoader loader(images, {.batch = 128, .steps = 1'000'000, .virtual_ranks = 8, .end_part = 8});
    for (int64_t step = 0; step < taken % 8; ++step) EXPECT_EQ(loader.next().step, step);
  }
  BatchLoader(images, {.batch = 128, .steps = 0});
  // Whoever prepares the million steps first takes hours.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::minutes(2));
}

TEST(BatchLoader, ThrowsWhatItsThreadMetAtTheStepConcerned) {
  Images images = numbered_images(12);
  images.labels[7] = 200;
  BatchLoader loader(images, {.batch = 3, .steps = 9, .shuffle = false, .prefetch = 3});
  // Time for the thread to meet it, so that the steps before it are asked for later.
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(loader.next().step, 0);
  EXPECT_EQ(loader.next().step, 1);
  for (int again = 0; again < 2; ++again)
    EXPECT_THAT(error_of([&] { loader.next(); }), AllOf(StartsWith("data: "), HasSubstr("sample 7 has label 200")));
}

TEST(BatchLoader, RefusesToGoOnBehindItsLastStep) {
  const Images images = numbered_images(4);
  BatchLoader loader(images, {.batch = 2, .steps = 1});
  loader.next();
  EXPECT_THAT(error_of([&] { loader.next(); }), HasSubstr("no batch to be asked for behind that of step 0"));
}

TEST(BatchLoader, RefusesSettingsThatCannotBeMeant) {
  const auto refusal = [](const Images& images, const LoaderSettings& settings) {
    return error_of([&] { BatchLoader loader(images, settings); });
  };
  const Images images = numbered_images(4);
  EXPECT_THAT(refusal(images, {.batch = 0, .steps = 1}), StartsWith("usage: "));
  EXPECT_THAT(refusal(images, {.batch = 2, .steps = -1}), StartsWith("usage: "));
  EXPECT_THAT(refusal(images, {.batch = 2, .steps = 1, .prefetch = 0}), StartsWith("usage: "));
  EXPECT_THAT(refusal(images, {.batch = 2, .steps = 1, .virtual_ranks = 2, .end_part = 3}), HasSubstr("0 .. 2"));
  EXPECT_THAT(refusal(images, {.batch = 2, .steps = 1, .first_part = 1, .end_part = 0}), HasSubstr("1 .. 0"));
  Images short_of_labels = images;
  short_of_labels.labels.pop_back();
  EXPECT_THAT(refusal(short_of_labels, {.batch = 2, .steps = 1}), HasSubstr("3 labels"));
  EXPECT_THAT(refusal(Images{}, {.batch = 2, .steps = 1}), StartsWith("data: "));
}

}  // namespace
}  // namespace lockstep
