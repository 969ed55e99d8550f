// SPDX-License-Identifier: Apache-2.0
// The memory walks, through the kernels that stand on them: right sums, and the same bits on any number of threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "kernels/chunk_hashes.h"
#include "kernels/chunk_squares.h"
#include "kernels/dropout.h"
#include "kernels/pointwise.h"
#include "kernels/reduce_chunks.h"
#include "kernels/reduction.h"

namespace lockstep {
namespace {

View view(std::vector<float>& values, const Shape& shape) {
  return {values.data(), DType::f32, DeviceKind::cpu, shape};
}

std::vector<float> waves(int64_t n) {
  std::vector<float> values(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) values[size_t(i)] = std::sin(float(i) * 0.37f) + 0.01f * float(i % 7);
  return values;
}

std::vector<float> column_sums(std::vector<float> matrix, int64_t rows, int64_t columns, int threads) {
  std::vector<float> sums(static_cast<size_t>(columns));
  Stream stream = Stream::cpu(threads);
  launch(stream, ColumnSum{.out = view(sums, {columns}), .in = view(matrix, {rows, columns})});
  return sums;
}

std::vector<int64_t> hashes(std::vector<int64_t> words, int64_t first = 0, int threads = 1) {
  const int64_t count = std::ssize(words), chunks = (count + kHashChunk - 1) / kHashChunk;
  std::vector<int64_t> sums(static_cast<size_t>(chunks));
  Stream stream = Stream::cpu(threads);
  launch(stream, ChunkHashes{.sums = {sums.data(), DType::i64, DeviceKind::cpu, Shape{chunks}},
                             .words = {words.data(), DType::i64, DeviceKind::cpu, Shape{count}},
                             .first = first});
  return sums;
}

TEST(ChunkHashes, SeeEveryBitAndEveryPlace) {
  std::vector<int64_t> words(size_t(3 * kHashChunk + 5));
  for (size_t i = 0; i < words.size(); ++i) words[i] = int64_t(i / 3 * 0x123456789);
  const std::vector<int64_t> whole = hashes(words);
  for (const size_t at : {size_t(0), size_t(kHashChunk + 77), words.size() - 1})
    for (int bit = 0; bit < 64; ++bit) {
      std::vector<int64_t> flipped = words;
      flipped[at] ^= int64_t(uint64_t(1) << bit);
      const std::vector<int64_t> other = hashes(flipped);
      for (size_t chunk = 0; chunk < whole.size(); ++chunk)
        EXPECT_EQ(other[chunk] == whole[chunk], chunk != at / size_t(kHashChunk)) << "bit " << bit << " of word " << at;
    }
  // The same words elsewhere, and the same work cut otherwise.
  std::vector<int64_t> swapped = words;
  std::swap(swapped[2], swapped[3]);
  EXPECT_NE(hashes(swapped)[0], whole[0]);
  EXPECT_NE(hashes(words, kHashChunk)[0], whole[0]);
  EXPECT_EQ(hashes({words.begin() + kHashChunk, words.end()}, kHashChunk),
            std::vector<int64_t>(whole.begin() + 1, whole.end()));
  std::vector<int64_t> many(size_t(20 * kHashChunk));
  EXPECT_EQ(hashes(many, 0, 3), hashes(many));
}

TEST(Reduce, SumsColumnsInAnOrderThatThreadsDoNotChange) {
  for (const auto& [rows, columns] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 3}, {1, 1}, {5, 130}, {2048, 64}, {2049, 65}, {5000, 10}, {40'000, 33}, {300'000, 2}}) {
    const std::vector<float> matrix = waves(rows * columns);
    const std::vector<float> one = column_sums(matrix, rows, columns, 1);
    for (int64_t c = 0; c < columns; ++c) {
      double exact = 0, magnitude = 1;
      for (int64_t r = 0; r < rows; ++r) {
        exact += double(matrix[size_t(r * columns + c)]);
        magnitude += std::abs(double(matrix[size_t(r * columns + c)]));
      }
      ASSERT_NEAR(one[size_t(c)], exact, 1e-6 * magnitude) << rows << " x " << columns << ", column " << c;
    }
    EXPECT_EQ(column_sums(matrix, rows, columns, 2), one);
    EXPECT_EQ(column_sums(matrix, rows, columns, 3), one);
  }
}

// One thread, or one block, adds up what the others have summed in chunks: its time does not grow with the chunks'.
TEST(Reduce, LeavesABoundedNumberOfChunksToWhoAddsThemUp) {
  for (int64_t n = 1; n < int64_t(1) << 45; n = n * 2 + n % 3) {
    const ReduceChunks rows{n};
    EXPECT_LE(rows.count(), ReduceChunks::kMost) << n;
    EXPECT_TRUE((rows.count() - 1) * rows.length() < n && n <= rows.count() * rows.length()) << n;
    EXPECT_EQ(rows.length() % ReduceChunks::kRows, 0) << n;
    const SquareChunks squares{n};
    EXPECT_LE(squares.count(), kMostSquareChunks) << n;
    EXPECT_EQ(squares.end(squares.count() - 1), n);
    EXPECT_EQ(squares.end(0), std::min(n, squares.begin(1))) << n;
    EXPECT_LT(squares.begin(squares.count() - 1), n);
  }
  // Where there are few, they are short.
  EXPECT_EQ(ReduceChunks{ReduceChunks::kRows * ReduceChunks::kMost}.length(), ReduceChunks::kRows);
  EXPECT_EQ(SquareChunks{kSquareChunk * kMostSquareChunks}.length(), kSquareChunk);
  EXPECT_EQ(SquareChunks{0}.count(), 0);
}

TEST(Rowwise, SumsAVectorOfAnyLength) {
  for (const int64_t n : {0, 1, 2, 3, 10, 255, 256, 257, 511, 65'536, 65'537, 100'000, 300'001}) {
    std::vector<float> values = waves(n), total(1);
    Stream stream = Stream::cpu();
    launch(stream, Sum{.out = view(total, {}), .in = view(values, {n}), .scale = 0.5f});
    double exact = 0;
    for (const float v : values) exact += v;
    EXPECT_NEAR(total[0], 0.5 * exact, 1e-6 * double(n + 1)) << n;
  }
}

TEST(Elementwise, GivesTheSameBitsWhereverThreadsCutIt) {
  std::vector<float> values = waves(100'003);
  const auto gelu = [&](int threads) {
    std::vector<float> result(values.size());
    Stream stream = Stream::cpu(threads);
    launch(stream, Unary<Gelu>{.out = view(result, {100'003}), .in = view(values, {100'003})});
    return result;
  };
  EXPECT_EQ(gelu(1), gelu(3));
}

TEST(Elementwise, RefusesViewsOfDifferentSizes) {
  std::vector<float> a(4), b(5);
  Stream stream = Stream::cpu();
  EXPECT_THROW(launch(stream, AddInto{view(a, {4}), view(b, {5})}), Error);
}

// What becomes of ones.
std::vector<float> dropout_mask(std::vector<int64_t> samples, int64_t columns, int64_t step = 3, uint32_t op = 0,
                                float rate = 0.3f, uint64_t seed = 11) {
  std::vector<float> ones(samples.size() * size_t(columns), 1.0f), mask(ones.size());
  Stream stream = Stream::cpu();
  const auto key = int64_t(dropout_key(seed, step));
  launch(stream, Dropout{.out = view(mask, {int64_t(samples.size()), columns}),
                         .in = view(ones, {int64_t(samples.size()), columns}),
                         .sample_ids = {samples.data(), DType::i64, DeviceKind::cpu, Shape{int64_t(samples.size())}},
                         .key = {&key, DType::i64, DeviceKind::cpu, Shape{}},
                         .op = op,
                         .rate = rate});
  return mask;
}

TEST(Dropout, DropsAtItsRateAndKeepsTheMean) {
  const std::vector<float> mask = dropout_mask({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 10'000);
  double dropped = 0, sum = 0;
  for (const float m : mask) {
    EXPECT_TRUE(m == 0.0f || m == 1 / (1 - 0.3f));
    dropped += m == 0.0f;
    sum += m;
  }
  // 100,000 draws: five standard deviations are 0.0072.
  EXPECT_NEAR(dropped / double(mask.size()), 0.3, 0.0073);
  EXPECT_NEAR(sum / double(mask.size()), 1.0, 0.011);
}

TEST(Dropout, DependsOnTheSampleAndNotOnItsPlaceInTheBatch) {
  const std::vector<float> both = dropout_mask({40, 41}, 101), second = dropout_mask({41}, 101);
  EXPECT_EQ(std::vector<float>(both.begin() + 101, both.end()), second);
}

TEST(Dropout, DiffersBySampleStepOpAndSeed) {
  const std::vector<float> mask = dropout_mask({40}, 101);
  EXPECT_NE(mask, dropout_mask({41}, 101));
  EXPECT_NE(mask, dropout_mask({40}, 101, 4));
  EXPECT_NE(mask, dropout_mask({40}, 101, 3, 1));
  EXPECT_NE(mask, dropout_mask({40}, 101, 3, 0, 0.3f, 12));
  EXPECT_EQ(mask, dropout_mask({40}, 101));
}

TEST(Dropout, DiffersInEveryStep) {
  std::set<std::vector<float>> masks;
  for (int64_t step = 0; step < 100; ++step) masks.insert(dropout_mask({40}, 101, step));
  EXPECT_EQ(masks.size(), 100u);
}

// Norms of what float could not square without a loss.
TEST(ChunkSquares, AreThoseOfDouble) {
  const std::vector<float> values = {1 + 0x1p-23f, 1e-30f, 3e30f};
  for (const float x : values) {
    double sum = 0;
    const int64_t begin = 0, end = 1;
    Stream stream = Stream::cpu();
    launch(stream, ChunkSquares{.sums = {&sum, DType::f64, DeviceKind::cpu, Shape{1}},
                                .values = {&x, DType::f32, DeviceKind::cpu, Shape{1}},
                                .begins = {&begin, DType::i64, DeviceKind::cpu, Shape{1}},
                                .ends = {&end, DType::i64, DeviceKind::cpu, Shape{1}}});
    EXPECT_EQ(sum, double(x) * double(x));
  }
}

TEST(Dropout, RepeatsNoStretchOfAWideRow) {
  constexpr int64_t kWidth = 128;
  const std::vector<float> mask = dropout_mask({40}, (1 << 16) + kWidth);
  const auto stretch = [&](int64_t begin) {
    return std::vector<float>(mask.begin() + begin, mask.begin() + begin + kWidth);
  };
  for (int64_t begin = kWidth; begin <= 1 << 16; begin *= 2) EXPECT_NE(stretch(begin), stretch(0)) << begin;
}

}  // namespace
}  // namespace lockstep
