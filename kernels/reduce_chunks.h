// SPDX-License-Identifier: Apache-2.0
// How the rows of a sum over rows are cut: the same on every backend, because it decides the order of additions.
#pragma once

#include <cstdint>

namespace lockstep {

// At most kMost chunks, of kRows rows or, where there are many rows, of a multiple: one thread adds the chunks of a
// column up, and its time must not grow with the rows.
struct ReduceChunks {
  static constexpr int64_t kRows = 2048, kMost = 128;
  int64_t rows;
  int64_t length() const { return rows > kRows * kMost ? (rows + kRows * kMost - 1) / (kRows * kMost) * kRows : kRows; }
  int64_t count() const { return rows > 0 ? (rows + length() - 1) / length() : 1; }
};

}  // namespace lockstep
