// SPDX-License-Identifier: Apache-2.0
#include "optimizers/option_reader.h"

#include <algorithm>
#include <cmath>

#include "kernels/device/check.h"
#include "kernels/device/known_name.h"
#include "kernels/device/number_text.h"

namespace lockstep {

namespace {

std::string default_of(std::optional<double> standard) {
  return standard ? "; the default is " + exact(*standard) : "";
}

}  // namespace

double OptionReader::number(std::string_view name, std::optional<double> standard, AllowedRange range) {
  const double x = value(name, standard);
  // This is written so that a NaN fails.
  const bool inside = x >= range.lowest && (range.closed ? x <= range.highest : x < range.highest);
  check(inside, ErrorCode::usage, [&] {
    return str(owner_, ": expected ", name, " in [", exact(range.lowest), ", ", exact(range.highest),
               range.closed ? "]" : ")", ", got ", exact(x), default_of(standard));
  });
  return x;
}

std::string_view OptionReader::either(std::string_view name, std::string_view other) const {
  if (!given(other)) return name;
  check(!given(name), ErrorCode::usage, [&] { return str(owner_, ": expected ", name, " or ", other, ", got both"); });
  return other;
}

void OptionReader::refuse(std::string_view name, std::string_view reason) const {
  check(!given(name), ErrorCode::usage, [&] { return str(owner_, ": ", reason); });
}

bool OptionReader::flag(std::string_view name, bool standard) {
  const double x = value(name, standard ? 1 : 0);
  check(x == 0 || x == 1, ErrorCode::usage,
        [&] { return str(owner_, ": expected ", name, " to be 0 or 1, got ", exact(x)); });
  return x == 1;
}

int64_t OptionReader::count(std::string_view name, std::optional<int64_t> standard, int64_t lowest) {
  // Every whole number below is a double, and no other one becomes one of them by rounding.
  constexpr double kEnd = 0x1p53;
  const double x = value(name, standard);
  check(x >= double(lowest) && x < kEnd && x == std::floor(x), ErrorCode::usage, [&] {
    return str(owner_, ": expected ", name, " to be a whole number from ", lowest, " to 2^53 - 1, got ", exact(x),
               default_of(standard));
  });
  return int64_t(x);
}

std::vector<Hyperparameter> OptionReader::finish() const {
  for (const auto& [name, _] : options_) {
    if (std::ranges::find(read_, name, &Hyperparameter::name) != read_.end()) continue;
    std::vector<std::string_view> known;
    for (const Hyperparameter& parameter : read_) known.push_back(parameter.name);
    fail(ErrorCode::usage,
         str(owner_, " has no hyper-parameter '", name, "'; ", did_you_mean(name, known), " ", list_of(known)));
  }
  return read_;
}

double OptionReader::value(std::string_view name, std::optional<double> standard) {
  const auto given = options_.find(std::string(name));
  if (given == options_.end() && !standard) {
    std::string names;
    for (const auto& [other, _] : options_) names += str(names.empty() ? "" : ", ", other);
    fail(ErrorCode::usage, str(owner_, ": expected a value for ", name,
                               ", which has no default; given are: ", names.empty() ? "none" : names));
  }
  const double x = given == options_.end() ? *standard : given->second;
  read_.push_back({name, x});
  return x;
}

}  // namespace lockstep
