// SPDX-License-Identifier: Apache-2.0
// Names that users type: an unknown one is answered with the nearest known one.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>

#include "kernels/device/check.h"
#include "kernels/device/nearest_name.h"

namespace lockstep {

// Error(usage) unless `name` is one of `known`, which is not empty. `more`: where to read on.
inline void check_known(std::string_view what, std::string_view name, std::span<const std::string_view> known,
                        std::string_view more) {
  check(std::ranges::find(known, name) != known.end(), ErrorCode::usage,
        [&] { return str("unknown ", what, " '", name, "'; did you mean '", nearest_name(name, known), "'? ", more); });
}

inline std::string list_of(std::span<const std::string_view> names) {
  std::string text;
  for (const std::string_view name : names) text += str(text.empty() ? "Known are: " : ", ", name);
  return text;
}

}  // namespace lockstep
