// SPDX-License-Identifier: Apache-2.0
// The four walks on a GPU give the bits that they give on the CPU: odd sizes, views that start between vectors, rows
// and columns around the borders of warps and blocks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/chunk_hashes.h"
#include "kernels/chunk_squares.h"
#include "kernels/device/memory.h"
#include "kernels/device/transfer.h"
#include "kernels/layer_norm.h"
#include "kernels/max_pool.h"
#include "kernels/pointwise.h"
#include "kernels/reduce_chunks.h"
#include "kernels/reduction.h"
#include "kernels/softmax.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

constexpr int64_t kSizes[] = {0, 1, 3, 31, 32, 33, 255, 256, 257, 1000, 4097};

std::vector<float> waves(int64_t n, int64_t phase = 0) {
  std::vector<float> values(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) values[size_t(i)] = std::sin(float(i + 5 * phase) * 0.37f) * 2;
  return values;
}

// One device with its views; all of a kernel's memory of that device.
class Side {
 public:
  explicit Side(Device device)
      : stream_(device.kind == DeviceKind::cpu ? Stream::cpu() : Stream::cuda(0)), pool_(device) {}
  // A view `offset` elements behind the start of a block.
  View put(const std::vector<float>& values, const Shape& shape, int64_t offset = 0) {
    const View at = room(DType::f32, shape, offset);
    copy(stream_, at.data, values.data(), at.bytes());
    stream_.synchronize();
    return at;
  }
  template <class T>
  View put_as(DType dtype, const std::vector<T>& values, const Shape& shape) {
    const View at = room(dtype, shape, 0);
    copy(stream_, at.data, values.data(), at.bytes());
    stream_.synchronize();
    return at;
  }
  View room(DType dtype, const Shape& shape, int64_t offset = 0) {
    const int64_t bytes = (shape.size() + offset) * size_of(dtype);
    buffers_.emplace_back(pool_, bytes + 1, Purpose::data);
    const View all = buffers_.back().view(dtype, Shape{shape.size() + offset});
    clear(stream_, all);
    return {static_cast<char*>(all.data) + offset * size_of(dtype), dtype, all.device, shape};
  }
  std::vector<char> bytes(const View& view) {
    std::vector<char> host(static_cast<size_t>(view.bytes()));
    if (!host.empty()) copy(stream_, host.data(), view.data, view.bytes());
    stream_.synchronize();
    return host;
  }
  Stream& stream() { return stream_; }

 private:
  Stream stream_;
  Pool pool_;
  std::vector<Buffer> buffers_;
};

// What `body(side)` returns as views has the same bits on both.
template <class Body>
void expect_same_bits(const std::string& what, const Body& body) {
  std::vector<std::vector<char>> results[2];
  for (const DeviceKind kind : {DeviceKind::cpu, DeviceKind::cuda}) {
    Side side(Device{kind, 0});
    for (const View& view : std::vector<View>(body(side)))
      results[kind == DeviceKind::cuda].push_back(side.bytes(view));
  }
  EXPECT_EQ(results[0], results[1]) << what;
}

TEST(WalkParity, Elementwise) {
  LOCKSTEP_NEEDS_GPU();
  for (const int64_t n : kSizes)
    for (const int64_t offset : {0, 1, 2, 3})
      expect_same_bits(str(n, " elements, offset ", offset), [&](Side& side) {
        const View in = side.put(waves(n), {n}, offset), out = side.room(DType::f32, {n}, offset);
        const View sum = side.put(waves(n, 1), {n}), fill = side.room(DType::f32, {n}, offset);
        const View narrow = side.room(DType::bf16, {n}, offset), wide = side.room(DType::f32, {n});
        const View rounded = side.put(waves(n), {n}, offset), rounded_sum = side.put(waves(n, 1), {n}, offset);
        launch(side.stream(), Unary<Gelu>{out, in});
        launch(side.stream(), AddInto{sum, in});
        launch(side.stream(), Fill{fill, 2.5f});
        launch(side.stream(), Copy{narrow, in});
        launch(side.stream(), Copy{wide, narrow});
        launch(side.stream(), RoundToBf16{rounded});
        launch(side.stream(), AddIntoBf16{rounded_sum, in});
        return std::vector<View>{out, sum, fill, narrow, wide, rounded, rounded_sum};
      });
}

TEST(WalkParity, Rowwise) {
  LOCKSTEP_NEEDS_GPU();
  for (const int64_t columns : {1, 3, 31, 32, 33, 255, 256, 257, 1000, 1024, 1025, 4097})
    for (const int64_t rows : {1, 7, 8, 9})
      expect_same_bits(str(rows, " x ", columns), [&](Side& side) {
        const Shape matrix{rows, columns}, column{rows};
        const View in = side.put(waves(rows * columns), matrix, 1), gain = side.put(waves(columns, 1), {columns});
        const View out = side.room(DType::f32, matrix), mean = side.room(DType::f32, column);
        const View rstd = side.room(DType::f32, column), p = side.room(DType::f32, matrix);
        const View loss = side.room(DType::f32, column), total = side.room(DType::f32, {});
        const View labels = side.put_as(DType::i32, std::vector<int32_t>(size_t(rows), int32_t(columns - 1)), column);
        launch(side.stream(), LayerNorm{out, mean, rstd, in, gain, gain, 1e-5f});
        launch(side.stream(), SoftmaxCrossEntropy{loss, p, in, labels});
        launch(side.stream(), Sum{total, in, 0.5f});
        return std::vector<View>{out, mean, rstd, p, loss, total};
      });
}

TEST(WalkParity, SumsOfChunksOfALongVector) {
  LOCKSTEP_NEEDS_GPU();
  for (const int64_t n : {kSumChunk, kSumChunk + 1, 4 * kSumChunk + 77})
    expect_same_bits(str(n, " elements"), [&](Side& side) {
      const View total = side.room(DType::f32, {});
      launch(side.stream(), Sum{total, side.put(waves(n), {n}), 0.5f});
      return std::vector<View>{total};
    });
}

TEST(WalkParity, SumsOfSquaresOfChunks) {
  LOCKSTEP_NEEDS_GPU();
  for (const int64_t n : kSizes)
    expect_same_bits(str(n, " elements"), [&](Side& side) {
      const View sums = side.room(DType::f64, {2});
      const View begins = side.put_as(DType::i64, std::vector<int64_t>{0, n / 3}, {2});
      const View ends = side.put_as(DType::i64, std::vector<int64_t>{n / 3, n}, {2});
      launch(side.stream(), ChunkSquares{sums, side.put(waves(n), {n}, 1), begins, ends});
      return std::vector<View>{sums};
    });
}

TEST(WalkParity, HashesOfChunks) {
  LOCKSTEP_NEEDS_GPU();
  for (const int64_t words : {int64_t(1), int64_t(31), kHashChunk, 2 * kHashChunk + 77})
    expect_same_bits(str(words, " words"), [&](Side& side) {
      std::vector<int64_t> numbers(static_cast<size_t>(words));
      for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = int64_t(i * i * 0x9e3779b97f4a7c15u);
      const View sums = side.room(DType::i64, {(words + kHashChunk - 1) / kHashChunk});
      launch(side.stream(), ChunkHashes{sums, side.put_as(DType::i64, numbers, {words}), 5});
      return std::vector<View>{sums};
    });
}

TEST(WalkParity, Reduce) {
  LOCKSTEP_NEEDS_GPU();
  for (const int64_t rows : {0, 1, 15, 16, 17, 257, 2048, 2049, 4097})
    for (const int64_t columns : {1, 31, 32, 33, 257})
      expect_same_bits(str(rows, " x ", columns), [&](Side& side) {
        const View out = side.room(DType::f32, {columns});
        launch(side.stream(), ColumnSum{out, side.put(waves(rows * columns), {rows, columns}, 1)});
        return std::vector<View>{out};
      });
}

TEST(WalkParity, ReduceOfSoManyRowsThatChunksAreLonger) {
  LOCKSTEP_NEEDS_GPU();
  constexpr int64_t kRows = ReduceChunks::kRows * ReduceChunks::kMost + 1;
  expect_same_bits("many rows", [&](Side& side) {
    const View out = side.room(DType::f32, {1});
    launch(side.stream(), ColumnSum{out, side.put(waves(kRows), {kRows, 1})});
    return std::vector<View>{out};
  });
}

TEST(WalkParity, Gather) {
  LOCKSTEP_NEEDS_GPU();
  for (const int64_t channels : {1, 3, 33})
    for (const int64_t height : {2, 5, 9})
      expect_same_bits(str(channels, " channels, height ", height), [&](Side& side) {
        const Shape whole{2, height, 6, channels}, pooled{2, height / 2, 3, channels};
        const View in = side.put(waves(whole.size()), whole), out = side.room(DType::f32, pooled);
        const View d_in = side.room(DType::f32, whole), d_out = side.put(waves(pooled.size(), 1), pooled);
        launch(side.stream(), MaxPool2d{out, in});
        launch(side.stream(), MaxPool2dGrad{d_in, d_out, in, out});
        return std::vector<View>{out, d_in};
      });
}

// Small enough for a context a CUDA thread under the thread sanitizer.
TEST(WalkRaces, EveryWalkIsFree) {
  LOCKSTEP_NEEDS_GPU();
  expect_same_bits("small", [&](Side& side) {
    const View in = side.put(waves(2050), {2, 1025}), out = side.room(DType::f32, {2, 1025});
    const View mean = side.room(DType::f32, {2}), rstd = side.room(DType::f32, {2});
    const View gain = side.put(waves(1025, 1), {1025}), sums = side.room(DType::f32, {3});
    const View narrow = side.put(waves(99), {33, 3}), pooled = side.room(DType::f32, {1, 2, 2, 3});
    launch(side.stream(), LayerNorm{out, mean, rstd, in, gain, gain, 1e-5f});
    launch(side.stream(), LayerNorm{slice(narrow, 0, 33), slice(sums, 0, 1), slice(sums, 1, 2), slice(narrow, 33, 66),
                                    slice(gain, 0, 33), slice(gain, 0, 33), 1e-5f});
    launch(side.stream(), ColumnSum{sums, narrow});
    launch(side.stream(), AddInto{mean, rstd});
    launch(side.stream(), MaxPool2d{pooled, side.put(waves(48), {1, 4, 4, 3})});
    return std::vector<View>{out, mean, rstd, sums, pooled};
  });
}

TEST(Launch, OfMoreBlocksThanThereCanBeIsRefusedOnAGpu) {
  LOCKSTEP_NEEDS_GPU();
  Stream stream = Stream::cuda(0);
  Pool pool(stream.device());
  const Buffer memory(pool, 16, Purpose::data);
  const View small = memory.view(DType::f32, {4});
  View huge = small;
  huge.shape = Shape{int64_t{1} << 44};
  EXPECT_THAT(
      ([&] {
        launch(stream, Fill{huge, 1});
      }),
      testing::ThrowsMessage<Error>(testing::HasSubstr("blocks is more than CUDA can start; split the tensor")));
  launch(stream, Fill{small, 2});  // the device goes on
  float values[4] = {};
  copy(stream, View{values, DType::f32, DeviceKind::cpu, {4}}, small);
  stream.synchronize();
  EXPECT_THAT(values, testing::Each(2));
}

}  // namespace
}  // namespace lockstep
