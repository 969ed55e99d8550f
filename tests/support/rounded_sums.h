// SPDX-License-Identifier: Apache-2.0
// The definition of sums in bf16, in arithmetic of its own: no bits are looked at, and no code is shared.
#pragma once

#include <cmath>
#include <cstddef>
#include <random>
#include <span>
#include <vector>

#include "kernels/device/dtype.h"

namespace lockstep {

using Row = std::vector<float>;

// The number of eight binary digits next to x, the even one of two. For zero and normal numbers.
inline float nearest_bf16(float x) {
  int exponent = 0;
  const double fraction = std::frexp(double(x), &exponent);
  return float(std::ldexp(std::nearbyint(std::ldexp(fraction, 8)), exponent - 8));
}

inline float kept_in(DType dtype, float x) { return dtype == DType::bf16 ? nearest_bf16(x) : x; }

// Different for every step and leaf, of many magnitudes, with halves between two bf16 among them.
inline Row leaf_gradient(int step, int leaf, size_t n) {
  std::minstd_rand random(unsigned(step * 1000 + leaf + 1));
  Row row(n);
  for (float& x : row) {
    const auto digits = int(random() % 2'000'001) - 1'000'000;
    x = float(random() % 8 == 0 ? digits / 4096 * 4096 + 2048 : digits) * std::exp2(-float(random() % 24));
  }
  return row;
}

// The sum of a subtree is the sum of its left part, the largest power of two below, plus that of its right part. In
// bf16 leaves and sums are rounded.
inline Row tree_of(std::span<const Row> leaves, DType dtype) {
  Row sum = leaves[0];
  if (leaves.size() == 1) {
    for (float& x : sum) x = kept_in(dtype, x);
    return sum;
  }
  size_t left = 1;
  while (left * 2 < leaves.size()) left *= 2;
  sum = tree_of(leaves.first(left), dtype);
  const Row right = tree_of(leaves.subspan(left), dtype);
  for (size_t i = 0; i < sum.size(); ++i) sum[i] = kept_in(dtype, sum[i] + right[i]);
  return sum;
}

inline Row tree_of_step(int step, int leaves, size_t n, DType dtype) {
  std::vector<Row> rows;
  for (int leaf = 0; leaf < leaves; ++leaf) rows.push_back(leaf_gradient(step, leaf, n));
  return tree_of(rows, dtype);
}

}  // namespace lockstep
