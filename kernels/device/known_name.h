// SPDX-License-Identifier: Apache-2.0
// The words that answer an unknown name, typed by a user, with the nearest known one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "kernels/device/check.h"
#include "kernels/device/nearest_name.h"

namespace lockstep {

// "did you mean 'adam'?"; `known` is not empty.
inline std::string did_you_mean(std::string_view name, std::span<const std::string_view> known) {
  return str("did you mean '", nearest_name(name, known), "'?");
}

// "Known are: sgd, adam"
inline std::string list_of(std::span<const std::string_view> names) {
  std::string text;
  for (const std::string_view name : names) text += str(text.empty() ? "Known are: " : ", ", name);
  return text;
}

// Throws Error(code): "unknown optimizer 'adma'; did you mean 'adam'?" and `more`, which says where to read on.
[[noreturn]] inline void fail_unknown(std::string_view what, std::string_view name,
                                      std::span<const std::string_view> known, std::string_view more,
                                      ErrorCode code = ErrorCode::usage) {
  fail(code, str("unknown ", what, " '", name, "'; ", did_you_mean(name, known), " ", more));
}

// Calls fail_unknown() unless `name` is one of `known`, which is not empty.
inline void check_known(std::string_view what, std::string_view name, std::span<const std::string_view> known,
                        std::string_view more, ErrorCode code = ErrorCode::usage) {
  if (std::ranges::find(known, name) == known.end()) fail_unknown(what, name, known, more, code);
}

// Returns the one of `choices` whose to_string() is `name`. Otherwise Error(usage) lists what `option` takes:
// "--reduce: expected tree, fast or mpi, got 'foo'".
template <class T, size_t N>
const T& parse_choice(std::string_view option, std::string_view name, const T (&choices)[N]) {
  std::string list;
  for (size_t i = 0; i < N; ++i) {
    if (to_string(choices[i]) == name) return choices[i];
    list += str(i == 0 ? "" : i + 1 == N ? " or " : ", ", to_string(choices[i]));
  }
  fail(ErrorCode::usage, str(option, ": expected ", list, ", got '", name, "'"));
}

}  // namespace lockstep
