// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/benchmark.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <ostream>

#include "kernels/device/check.h"

namespace lockstep {

namespace {

using Call = std::function<void()>;

double seconds_of(const Call& call, int64_t calls) {
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < calls; ++i) call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The number of calls that last about `seconds`; at least one.
int64_t calls_lasting(const Call& call, double seconds) {
  int64_t calls = 1;
  double taken = seconds_of(call, calls);
  while (taken < seconds / 2 && calls < (int64_t(1) << 40)) {
    calls *= 2;
    taken = seconds_of(call, calls);
  }
  return std::max<int64_t>(1, std::llround(double(calls) * std::min(1.0, seconds / taken)));
}

// The value below which `share` of the others lie.
double quantile(std::vector<double> values, double share) {
  check(!values.empty(), ErrorCode::internal, "a quantile needs at least one value");
  std::ranges::sort(values);
  const double position = share * double(values.size() - 1);
  const size_t below = size_t(position), above = std::min(below + 1, values.size() - 1);
  return values[below] + (values[above] - values[below]) * (position - double(below));
}

}  // namespace

double median(std::vector<double> values) { return quantile(std::move(values), 0.5); }

double InterleavedTimes::seconds(size_t alternative) const { return median(seconds_.at(alternative)); }

double InterleavedTimes::ratio(size_t a, size_t b) const {
  std::vector<double> ratios;
  for (size_t round = 0; round < seconds_.at(a).size(); ++round)
    ratios.push_back(seconds_[a][round] / seconds_.at(b)[round]);
  return median(std::move(ratios));
}

double InterleavedTimes::spread(size_t alternative) const {
  const std::vector<double>& values = seconds_.at(alternative);
  return (quantile(values, 0.75) - quantile(values, 0.25)) / 2 / median(values);
}

InterleavedTimes time_interleaved(std::span<const Call> alternatives, const TimingOptions& options) {
  check(options.rounds > 0, ErrorCode::usage, [&] { return str("expected at least one round, got ", options.rounds); });
  std::vector<int64_t> calls;
  for (const Call& call : alternatives) calls.push_back(calls_lasting(call, options.seconds_per_sample));
  std::vector<std::vector<double>> seconds(alternatives.size());
  for (int round = -options.warmup_rounds; round < options.rounds; ++round) {
    for (size_t i = 0; i < alternatives.size(); ++i) {
      const double taken = seconds_of(alternatives[i], calls[i]) / double(calls[i]);
      if (round >= 0) seconds[i].push_back(taken);
    }
  }
  return InterleavedTimes(std::move(seconds));
}

void print_table(std::ostream& out, std::span<const BenchmarkRow> rows) {
  constexpr size_t kColumns = 6;
  std::vector<std::array<std::string, kColumns>> cells = {{"name", "value", "unit", "roof", "% of roof", "note"}};
  for (const BenchmarkRow& row : rows) {
    const bool has_roof = row.roof != 0;
    cells.push_back({row.name, fmt::format("{:.4g}", row.value), row.unit,
                     has_roof ? fmt::format("{:.4g}", row.roof) : "-",
                     has_roof ? fmt::format("{:.1f}", 100 * row.share_of_roof) : "-", row.note});
  }
  std::array<size_t, kColumns> width = {};
  for (const auto& line : cells)
    for (size_t c = 0; c < kColumns; ++c) width[c] = std::max(width[c], line[c].size());
  for (const auto& line : cells) {
    out << fmt::format("{:<{}}  {:>{}}  {:<{}}  {:>{}}  {:>{}}  {}\n", line[0], width[0], line[1], width[1], line[2],
                       width[2], line[3], width[3], line[4], width[4], line[5]);
  }
}

void print_json(std::ostream& out, std::span<const BenchmarkRow> rows) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const BenchmarkRow& row : rows) {
    all.push_back({{"name", row.name},
                   {"value", row.value},
                   {"unit", row.unit},
                   {"roof", row.roof},
                   {"share_of_roof", row.share_of_roof},
                   {"bytes", row.bytes},
                   {"flops", row.flops},
                   {"note", row.note}});
  }
  out << all.dump(2) << '\n';
}

}  // namespace lockstep
