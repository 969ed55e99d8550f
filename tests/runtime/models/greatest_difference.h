// SPDX-License-Identifier: Apache-2.0
// How far our numbers are from those of another program.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace lockstep {

// The greatest difference over the greatest magnitude that was expected; infinite where there is nothing to compare.
inline double greatest_difference(const std::vector<float>& ours, const std::vector<float>& expected) {
  double difference = 0, greatest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference = std::max(difference, std::abs(double(ours.at(i)) - double(expected[i])));
    greatest = std::max(greatest, std::abs(double(expected[i])));
  }
  return ours.size() == expected.size() && greatest > 0 ? difference / greatest : INFINITY;
}

}  // namespace lockstep
