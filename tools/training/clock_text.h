// SPDX-License-Identifier: Apache-2.0
// Seconds as people read them.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <string>

namespace lockstep {

// "1:02:03", "2:03", "0:03"
inline std::string clock_text(double seconds) {
  const int64_t s = int64_t(std::llround(seconds));
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

}  // namespace lockstep
