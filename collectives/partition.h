// SPDX-License-Identifier: Apache-2.0
// How a range of elements is cut into one part per rank.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lockstep {

struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

// Returns part `index` of `parts` of [0, n). Inner borders are multiples of `grain`; parts may be empty when n is
// small.
inline Range part_of(int64_t n, int index, int parts, int64_t grain) {
  const int64_t grains = (n + grain - 1) / grain;
  const auto border = [&](int64_t i) { return std::min(n, grains * i / parts * grain); };
  return {border(index), border(index + 1)};
}

}  // namespace lockstep
