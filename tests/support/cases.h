// SPDX-License-Identifier: Apache-2.0
// The cases of a test that enumerates. A sanitizer looks at what code does and not at the numbers that come out, and it
// multiplies the time: under one, a few cases that are spread over the list stand for all. The builds without a
// sanitizer go through the whole list.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <ranges>
#include <vector>

namespace lockstep {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kUnderSanitizer = true;
#else
inline constexpr bool kUnderSanitizer = false;
#endif

// All of them, or under a sanitizer at most `few`, the first of them always and, where two or more are wanted, the
// last.
template <class T>
std::vector<T> cases(std::vector<T> all, size_t few = 2) {
  if (!kUnderSanitizer || all.size() <= few) return all;
  std::vector<T> chosen;
  for (size_t i = 0; i < few; ++i) chosen.push_back(all[few == 1 ? 0 : i * (all.size() - 1) / (few - 1)]);
  return chosen;
}

template <class T>
std::vector<T> cases(std::initializer_list<T> all, size_t few = 2) {
  return cases(std::vector<T>(all), few);
}

template <std::ranges::range Range>
auto cases(const Range& all, size_t few = 2) {
  return cases(std::vector<std::ranges::range_value_t<Range>>(std::ranges::begin(all), std::ranges::end(all)), few);
}

}  // namespace lockstep
