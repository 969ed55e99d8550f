// SPDX-License-Identifier: Apache-2.0
// The grain in which memory is laid out and cut: ranges that start on it are aligned for vector loads, and ranges of
// two ranks share no cache line.
#pragma once

#include <cstdint>

namespace lockstep {

inline constexpr int64_t kGranule = 32;  // elements: 128 bytes of f32

}  // namespace lockstep
