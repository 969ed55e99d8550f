// SPDX-License-Identifier: Apache-2.0
// Reads the hyper-parameters of one optimizer or schedule from a user's options, with defaults and ranges, and leaves
// no option unread.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "optimizers/optimizer.h"

namespace lockstep {

// The values that are allowed; `highest` itself only if `closed`. NaN and infinities never are.
struct AllowedRange {
  double lowest = 0;
  double highest = std::numeric_limits<float>::max();
  bool closed = true;
};
// What is divided by. An epsilon that vanishes as a float would make 0 / 0 of an element that never saw a gradient.
constexpr AllowedRange kPositive = {.lowest = std::numeric_limits<float>::min()};

class OptionReader {
 public:
  OptionReader(std::string_view owner, const std::map<std::string, double>& options)
      : owner_(owner), options_(options) {}

  // The value of `name`, or `standard` if the user gave none; without a standard the user must give one. Throws
  // Error(usage) outside `range`.
  double number(std::string_view name, std::optional<double> standard, AllowedRange range);
  bool flag(std::string_view name, bool standard);  // 0 or 1
  // Returns the one of a parameter's two names that the user gave, or the first. Throws Error(usage) if both are given.
  std::string_view either(std::string_view name, std::string_view other) const;
  // Throws Error(usage), with the reason, if the user gave `name`.
  void refuse(std::string_view name, std::string_view reason) const;
  bool given(std::string_view name) const { return options_.contains(std::string(name)); }

  // Reads a whole number.
  int64_t count(std::string_view name, std::optional<int64_t> standard, int64_t lowest);

  // Throws Error(usage) if an option was never asked for. Returns all that was read, in the order of reading.
  std::vector<Hyperparameter> finish() const;

 private:
  double value(std::string_view name, std::optional<double> standard);

  std::string_view owner_;
  const std::map<std::string, double>& options_;
  std::vector<Hyperparameter> read_;
};

}  // namespace lockstep
