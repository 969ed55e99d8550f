// SPDX-License-Identifier: Apache-2.0
// Benchmarks time several alternatives side by side on a noisy machine; their rows quote a measurement with the roof of
// the same run.
#pragma once

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

struct BenchmarkRow {
  std::string name = {};
  double value = 0;
  std::string unit = {};
  double roof = 0;           // what the machine allows, in `unit`, measured in the same run; 0: no roof
  double share_of_roof = 0;  // median of the rounds' own ratios, so it may differ a little from value / roof
  int64_t bytes = 0;         // moved by one call, by formula
  int64_t flops = 0;         // done by one call, by formula; 0: the call is bound by memory
  std::string note = {};
};

// Which rows are wanted: those whose names contain `text`; all of them where it is empty.
struct RowFilter {
  std::string text = {};
  bool wants(std::string_view name) const { return name.find(text) != std::string_view::npos; }
};

struct TimingOptions {
  int warmup_rounds = 1;
  int rounds = 9;
  double seconds_per_sample = 2e-3;  // short calls are repeated until a sample lasts about this long
};

// The seconds per call of every alternative in every round.
class InterleavedTimes {
 public:
  explicit InterleavedTimes(std::vector<std::vector<double>> seconds) : seconds_(std::move(seconds)) {}

  double seconds(size_t alternative) const;  // median over the rounds
  // Median over the rounds of the time of `a` divided by the time of `b` in the same round: a disturbance of one round
  // affects both.
  double ratio(size_t a, size_t b) const;
  // Half the distance between the quartiles, relative to the median: says how far to trust seconds().
  double spread(size_t alternative) const;

 private:
  std::vector<std::vector<double>> seconds_;  // [alternative][round]
};

// Calls the alternatives in turn, round by round; each returns when its work is done.
InterleavedTimes time_interleaved(std::span<const std::function<void()>> alternatives,
                                  const TimingOptions& options = {});

double median(std::vector<double> values);  // at least one value

// Prints for people: aligned columns, one line per row.
void print_table(std::ostream& out, std::span<const BenchmarkRow> rows);
// Prints for the record: an array of {name, value, unit, roof, share_of_roof, bytes, flops, note}.
void print_json(std::ostream& out, std::span<const BenchmarkRow> rows);

}  // namespace lockstep
