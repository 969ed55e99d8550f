// SPDX-License-Identifier: Apache-2.0
// Numbers in texts: read as they were typed, and written so that they read back as the same number. What ranks compare
// and what is hashed goes through exact().
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace lockstep {

// Reads all of `text` as a number; empty for anything else, and for what T cannot hold.
template <class T>
std::optional<T> number_in(std::string_view text) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  T value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Whole numbers are decimal, also with leading zeros.
inline std::optional<int64_t> whole_number_in(std::string_view text) { return number_in<int64_t>(text); }
inline std::optional<double> real_number_in(std::string_view text) { return number_in<double>(text); }

// Returns the shortest digits that read back as the same double.
inline std::string exact(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

}  // namespace lockstep
