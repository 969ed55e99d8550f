// SPDX-License-Identifier: Apache-2.0
// The cases of a test that enumerates. A sanitizer looks at what code does and not at the numbers that come out, and it
// multiplies the time: under one, a few cases that are spread over the list stand for all. The builds without a
// sanitizer go through the whole list.
#pragma once

#include <initializer_list>
#include <ranges>
#include <utility>
#include <vector>

namespace lockstep {

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kUnderThreadSanitizer = true;
#else
inline constexpr bool kUnderThreadSanitizer = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kUnderSanitizer = true;
#else
inline constexpr bool kUnderSanitizer = kUnderThreadSanitizer;
#endif

// At most `few` of them, the first always and, where two or more are wanted, the last.
template <class T>
std::vector<T> few_of(std::vector<T> all, size_t few) {
  if (all.size() <= few) return all;
  std::vector<T> chosen;
  for (size_t i = 0; i < few; ++i) chosen.push_back(all[few == 1 ? 0 : i * (all.size() - 1) / (few - 1)]);
  return chosen;
}

// All of them, or under a sanitizer at most `few`.
template <class T>
std::vector<T> cases(std::vector<T> all, size_t few = 2) {
  return kUnderSanitizer ? few_of(std::move(all), few) : all;
}

template <class T>
std::vector<T> cases(std::initializer_list<T> all, size_t few = 2) {
  return cases(std::vector<T>(all), few);
}

template <std::ranges::range Range>
auto cases(const Range& all, size_t few = 2) {
  return cases(std::vector<std::ranges::range_value_t<Range>>(std::ranges::begin(all), std::ranges::end(all)), few);
}

// The cases of training on GPUs, which CI runs in the builds with sanitizers alone: the address sanitizer takes all.
template <class T>
std::vector<T> cases_on_gpus(std::initializer_list<T> all, size_t few = 2) {
  return kUnderThreadSanitizer ? few_of(std::vector<T>(all), few) : std::vector<T>(all);
}

template <std::ranges::range Range>
auto cases_on_gpus(const Range& all, size_t few = 2) {
  const std::vector<std::ranges::range_value_t<Range>> listed(std::ranges::begin(all), std::ranges::end(all));
  return kUnderThreadSanitizer ? few_of(listed, few) : listed;
}

}  // namespace lockstep
