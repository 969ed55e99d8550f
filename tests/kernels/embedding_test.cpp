// SPDX-License-Identifier: Apache-2.0
// The gradient of a table of tokens: bit by bit in the order of sums that its header promises, on any device.
#include "kernels/embedding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/kernels/arrays.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

using testing_support::Array;

constexpr int64_t kEntries = 9, kWidth = 33;

// Tokens that occur less often than a chunk has rows, as often, once more, and several times as often, each spread over
// all rows. Token 0 and the last one are such, and one of them does not occur.
std::vector<int32_t> tokens_by_count() {
  constexpr int64_t kChunk = EmbedGrad::kChunk;
  const int64_t counts[kEntries] = {kChunk + 1, 1, kChunk, 2 * kChunk + 90, 0, 2, 2 * kChunk, 1, 3 * kChunk + 1};
  std::vector<int32_t> tokens;
  for (size_t token = 0; token < kEntries; ++token) tokens.insert(tokens.end(), size_t(counts[token]), int32_t(token));
  std::shuffle(tokens.begin(), tokens.end(), std::mt19937(5));
  return tokens;
}

// What the header says, one element after the other.
Array sums_in_order(const Array& held, const Array& d_out, const std::vector<int32_t>& tokens, bool accumulate) {
  Array sums = held;
  for (int64_t token = 0; token < kEntries; ++token)
    for (int64_t c = 0; c < kWidth; ++c) {
      float total = accumulate ? held[token * kWidth + c] : 0, chunk = 0;
      int64_t count = 0;
      for (size_t row = 0; row < tokens.size(); ++row) {
        if (tokens[row] != token) continue;
        const float x = d_out[int64_t(row) * kWidth + c];
        float& sum = count < EmbedGrad::kChunk ? total : chunk;
        sum = count % EmbedGrad::kChunk == 0 && (count > 0 || !accumulate) ? x : sum + x;
        ++count;
        if (count > EmbedGrad::kChunk && count % EmbedGrad::kChunk == 0) total += chunk;
      }
      if (count > EmbedGrad::kChunk && count % EmbedGrad::kChunk != 0) total += chunk;
      sums[token * kWidth + c] = total;
    }
  return sums;
}

void expect_sums_in_order(Stream stream) {
  const std::vector<int32_t> tokens = tokens_by_count();
  const int64_t rows = int64_t(tokens.size());
  const Array d_out = Array::random({rows, kWidth}, 1), held = Array::random({kEntries, kWidth}, 2);
  Pool pool(stream.device());
  const testing_support::OnDevice given(stream, pool, d_out);
  const Buffer token_memory(pool, rows * int64_t(sizeof(int32_t)), Purpose::data);
  const View on_device = token_memory.view(DType::i32, {rows});
  copy(stream, on_device.data, tokens.data(), on_device.bytes());
  for (const bool accumulate : {false, true}) {
    const testing_support::OnDevice d_table(stream, pool, held);
    launch(stream, EmbedGrad{.d_table = d_table, .d_out = given, .tokens = on_device, .accumulate = accumulate});
    EXPECT_EQ(d_table.values(), sums_in_order(held, d_out, tokens, accumulate).values) << "accumulate " << accumulate;
  }
}

TEST(EmbeddingGradient, AddsChunksOfATokensRowsInOrder) {
  for (const int threads : {1, 3}) expect_sums_in_order(Stream::cpu(threads));
}

TEST(EmbeddingGradient, AddsThemInThatOrderOnAGpu) {
  LOCKSTEP_NEEDS_GPU();
  expect_sums_in_order(Stream::cuda(0));
}

}  // namespace
}  // namespace lockstep
