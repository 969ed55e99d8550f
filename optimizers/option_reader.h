// SPDX-License-Identifier: Apache-2.0
// Reads the hyper-parameters of one optimizer from a user's options: defaults, ranges, and no option left unread.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "optimizers/optimizer.h"

namespace lockstep {

// Values that may be meant; `highest` itself only if `closed`. NaN and infinities never are.
struct Range {
  double lowest = 0;
  double highest = std::numeric_limits<float>::max();
  bool closed = true;
};

class OptionReader {
 public:
  OptionReader(std::string_view optimizer, const std::map<std::string, double>& options)
      : optimizer_(optimizer), options_(options) {}

  // The value of `name`, or `standard` where the user gave none. Throws Error(usage) outside `range`.
  double number(std::string_view name, double standard, Range range);
  bool flag(std::string_view name, bool standard);                         // 0 or 1
  int64_t count(std::string_view name, int64_t standard, int64_t lowest);  // a whole number

  // Throws Error(usage) when an option was never asked for; then everything that was read, in the order of reading.
  std::vector<Hyperparameter> finish() const;

 private:
  double value(std::string_view name, double standard);

  std::string_view optimizer_;
  const std::map<std::string, double>& options_;
  std::vector<Hyperparameter> read_;
};

}  // namespace lockstep
