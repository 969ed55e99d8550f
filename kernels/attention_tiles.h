// SPDX-License-Identifier: Apache-2.0
// The products inside of attention on the CPU: small matrices, whose sums are chains of fused multiply-adds in
// ascending order and stay in registers.
#pragma once

#include <cstdint>

namespace lockstep::attention {

// A matrix of which a row starts every `row` floats and a column every `column` floats.
struct Strided {
  const float* data;
  int64_t row, column;
};

inline constexpr int64_t kTileRows = 6, kTileColumns = 16;  // 12 of the 16 vector registers of AVX2 hold sums

// c[m, n] += sum over k, in order, of a[m, k] b[k, n], for M x N elements of c.
template <int M, int N>
void tile(int64_t k, const Strided& a, const float* b, int64_t ld_b, float* c, int64_t ld_c) {
  float sum[M][N];
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) sum[m][n] = c[m * ld_c + n];
  for (int64_t l = 0; l < k; ++l)
    for (int m = 0; m < M; ++m) {
      const float factor = a.data[m * a.row + l * a.column];
#pragma omp simd
      for (int n = 0; n < N; ++n) sum[m][n] = __builtin_fmaf(factor, b[l * ld_b + n], sum[m][n]);
    }
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) c[m * ld_c + n] = sum[m][n];
}

template <int N>
void tiles_of_column(int64_t m, int64_t k, Strided a, const float* b, int64_t ld_b, float* c, int64_t ld_c) {
  for (; m >= kTileRows; m -= kTileRows, a.data += kTileRows * a.row, c += kTileRows * ld_c)
    tile<kTileRows, N>(k, a, b, ld_b, c, ld_c);
  switch (m) {
    case 5:
      return tile<5, N>(k, a, b, ld_b, c, ld_c);
    case 4:
      return tile<4, N>(k, a, b, ld_b, c, ld_c);
    case 3:
      return tile<3, N>(k, a, b, ld_b, c, ld_c);
    case 2:
      return tile<2, N>(k, a, b, ld_b, c, ld_c);
    case 1:
      return tile<1, N>(k, a, b, ld_b, c, ld_c);
    default:
      return;
  }
}

// c[m, n] += sum over k, in order, of a[m, k] b[k, n]
inline void multiply_add(int64_t m, int64_t n, int64_t k, const Strided& a, const float* b, int64_t ld_b, float* c,
                         int64_t ld_c) {
  for (; n >= kTileColumns; n -= kTileColumns, b += kTileColumns, c += kTileColumns)
    tiles_of_column<kTileColumns>(m, k, a, b, ld_b, c, ld_c);
  for (; n > 0; --n, ++b, ++c) tiles_of_column<1>(m, k, a, b, ld_b, c, ld_c);
}

}  // namespace lockstep::attention
