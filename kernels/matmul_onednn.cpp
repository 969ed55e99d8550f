// SPDX-License-Identifier: Apache-2.0
#include <dnnl.h>

#include <algorithm>
#include <vector>

#include "kernels/matmul_cpu.h"
#include "kernels/onednn_thread.h"

namespace lockstep::onednn {
namespace {

void sgemm(const MatmulBlock& block) {
  const dnnl_status_t status =
      dnnl_sgemm(block.transpose_a ? 'T' : 'N', block.transpose_b ? 'T' : 'N', block.m, block.n, block.k, 1.0f, block.a,
                 block.ld_a, block.b, block.ld_b, block.accumulate ? 1.0f : 0.0f, block.out, block.ld_out);
  check(status == dnnl_success, ErrorCode::internal, [&] {
    return str("dnnl_sgemm of ", block.m, " x ", block.n, " x ", block.k, " returned status ", int(status));
  });
}

constexpr int64_t kTile = 8;

// to[j, i] = from[i, j] for a tile of kTile x kTile.
void transpose_tile(const float* from, int64_t ld_from, float* to, int64_t ld_to) {
  typedef float Row __attribute__((vector_size(kTile * sizeof(float))));
  typedef float UnalignedRow __attribute__((vector_size(kTile * sizeof(float)), aligned(4), may_alias));
  typedef int Index __attribute__((vector_size(kTile * sizeof(float))));
  Row x[kTile], y[kTile];
  for (int64_t i = 0; i < kTile; ++i) x[i] = *reinterpret_cast<const UnalignedRow*>(from + i * ld_from);
  // Rounds of exchanges at distance 1, 2 and 4.
  for (int i = 0; i < 8; i += 2) {
    y[i] = __builtin_shuffle(x[i], x[i + 1], Index{0, 8, 2, 10, 4, 12, 6, 14});
    y[i + 1] = __builtin_shuffle(x[i], x[i + 1], Index{1, 9, 3, 11, 5, 13, 7, 15});
  }
  for (int i : {0, 1, 4, 5}) {
    x[i] = __builtin_shuffle(y[i], y[i + 2], Index{0, 1, 8, 9, 4, 5, 12, 13});
    x[i + 2] = __builtin_shuffle(y[i], y[i + 2], Index{2, 3, 10, 11, 6, 7, 14, 15});
  }
  for (int i = 0; i < 4; ++i) {
    y[i] = __builtin_shuffle(x[i], x[i + 4], Index{0, 1, 2, 3, 8, 9, 10, 11});
    y[i + 4] = __builtin_shuffle(x[i], x[i + 4], Index{4, 5, 6, 7, 12, 13, 14, 15});
  }
  for (int64_t i = 0; i < kTile; ++i) *reinterpret_cast<UnalignedRow*>(to + i * ld_to) = y[i];
}

// to[j, i] = from[i, j] for rows x columns of `from`. Two tiles of rows at a time fill whole cache lines of `to`.
void transpose(const float* from, int64_t rows, int64_t columns, int64_t ld_from, float* to, int64_t ld_to) {
  constexpr int64_t kStrip = 2 * kTile;
  for (int64_t strip = 0; strip < rows; strip += kStrip)
    for (int64_t j = 0; j < columns; j += kTile)
      for (int64_t i = strip; i < std::min(rows, strip + kStrip); i += kTile) {
        if (i + kTile <= rows && j + kTile <= columns) {
          transpose_tile(from + i * ld_from + j, ld_from, to + j * ld_to + i, ld_to);
          continue;
        }
        for (int64_t column = j; column < std::min(columns, j + kTile); ++column)
          for (int64_t row = i; row < std::min(rows, i + kTile); ++row)
            to[column * ld_to + row] = from[row * ld_from + column];
      }
}

// Products with a transposed left side and a short inner dimension (gradients of weights) run at half speed in the
// library's kernel without packing; with the left side transposed beforehand they do not.
constexpr int64_t kLeastInner = 32, kShortInner = 1024, kWorthwhileColumns = 128, kStripRows = 192;

void transposed_first(const MatmulBlock& block) {
  std::vector<float> rows(size_t(std::min(block.m, kStripRows) * block.k));
  for (int64_t begin = 0; begin < block.m; begin += kStripRows) {
    MatmulBlock strip = block;
    strip.m = std::min(kStripRows, block.m - begin);
    transpose(block.a + begin, block.k, strip.m, block.ld_a, rows.data(), block.k);
    strip.a = rows.data();
    strip.ld_a = block.k;
    strip.transpose_a = false;
    strip.out += begin * block.ld_out;
    sgemm(strip);
  }
}

}  // namespace

void matmul_block(const MatmulBlock& block) {
  const OneThread one_thread;
  const bool short_inner = block.k >= kLeastInner && block.k <= kShortInner;
  if (block.transpose_a && short_inner && block.n >= kWorthwhileColumns) return transposed_first(block);
  sgemm(block);
}

std::string_view matmul_library() {
  static const std::string name =
      str("oneDNN ", dnnl_version()->major, ".", dnnl_version()->minor, ".", dnnl_version()->patch);
  return name;
}

}  // namespace lockstep::onednn
