// SPDX-License-Identifier: Apache-2.0
// Tells whether numbers are finite, at the speed of the cache they lie in.
#pragma once

#include <bit>
#include <cstdint>

namespace lockstep {

// Infinities and NaN have all bits of the exponent set, so that one more carries into the sign's place.
inline bool all_finite(const float* values, int64_t n) {
  uint32_t seen = 0;
#pragma omp simd reduction(| : seen)
  for (int64_t i = 0; i < n; ++i) seen |= (std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu) + 0x00800000u;
  return seen >> 31 == 0;
}

}  // namespace lockstep
