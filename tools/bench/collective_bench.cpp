// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/collective_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <ostream>
#include <string>

namespace lockstep {

namespace {

using Clock = std::chrono::steady_clock;

struct Alternative {
  std::string name;
  std::function<void()> call;
  float* values;
};

// Rank r puts in small integers, so that every order of addition is exact.
float term(int rank, int64_t i) { return float((i + rank) % 16); }

int64_t wrong_elements(Communicator& ranks, const Alternative& alternative, int64_t n) {
  for (int64_t i = 0; i < n; ++i) alternative.values[i] = term(ranks.rank(), i);
  ranks.barrier();
  alternative.call();
  int64_t wrong = 0;
  for (int64_t i = 0; i < n; ++i) {
    float expected = 0;
    for (int rank = 0; rank < ranks.size(); ++rank) expected += term(rank, i);
    wrong += alternative.values[i] != expected;
  }
  Stream stream = Stream::cpu();
  ranks.all_reduce({&wrong, DType::i64, DeviceKind::cpu, Shape{1}}, ReduceOp::sum, stream).wait(stream);
  return wrong;
}

// The longest time of any rank for one call, measured over `calls`. All ranks get the same number.
double sample(Communicator& ranks, const Alternative& alternative, int64_t calls) {
  ranks.barrier();
  const auto start = Clock::now();
  for (int64_t i = 0; i < calls; ++i) alternative.call();
  double seconds = std::chrono::duration<double>(Clock::now() - start).count() / double(calls);
  Stream stream = Stream::cpu();
  ranks.all_reduce({&seconds, DType::f64, DeviceKind::cpu, Shape{1}}, ReduceOp::max, stream).wait(stream);
  return seconds;
}

// Sums double from call to call; zeros avoid infinity, which some machines add more slowly.
void clear(const Alternative& alternative, int64_t n) { std::fill_n(alternative.values, n, 0.0f); }

void bench_size(Communicator& ranks, std::vector<Alternative>& alternatives, int64_t bytes,
                const CollectiveBenchOptions& options, std::vector<CollectiveBenchLine>& lines) {
  const int64_t n = bytes / 4;
  std::vector<std::vector<double>> seconds(alternatives.size());
  std::vector<int64_t> calls;
  for (Alternative& alternative : alternatives) {
    clear(alternative, n);
    sample(ranks, alternative, 1);
    const double once = sample(ranks, alternative, 3);
    calls.push_back(std::clamp<int64_t>(int64_t(options.seconds_per_sample / once), 1, 20'000));
  }
  for (int round = 0; round < options.rounds; ++round)
    for (size_t a = 0; a < alternatives.size(); ++a) seconds[a].push_back(sample(ranks, alternatives[a], calls[a]));
  const InterleavedTimes times(seconds);
  const bool has_mpi = alternatives.back().name == "mpi";
  for (size_t a = 0; a < alternatives.size(); ++a)
    lines.push_back({.bytes = bytes,
                     .algorithm = alternatives[a].name,
                     .seconds = times.seconds(a),
                     .of_mpi = has_mpi ? times.ratio(alternatives.size() - 1, a) : 0,
                     .wrong = wrong_elements(ranks, alternatives[a], n)});
}

double bus_bandwidth(const CollectiveBenchLine& line, int ranks) {
  return double(line.bytes) / line.seconds * 2 * (ranks - 1) / ranks / 1e9;
}

}  // namespace

std::vector<CollectiveBenchLine> bench_collectives(Communicator& ranks, const CollectiveBenchOptions& options) {
  Stream stream = Stream::cpu(options.threads);
  const auto window = ranks.allocate_shared(options.largest_bytes);
  std::vector<float> own(size_t(options.largest_bytes / 4)), theirs(own.size());
  auto* shared = static_cast<float*>(window->segment(ranks.place().local_rank));
  std::vector<CollectiveBenchLine> lines;
  for (int64_t bytes = options.smallest_bytes; bytes <= options.largest_bytes; bytes *= options.factor) {
    const auto view = [&](float* values) { return View{values, DType::f32, DeviceKind::cpu, Shape{bytes / 4}}; };
    const auto reduce = [&](float* values) {
      return [&, values] { ranks.all_reduce(view(values), ReduceOp::sum, stream).wait(stream); };
    };
    std::vector<Alternative> alternatives{{"window", reduce(shared), shared},
                                          {"staged", reduce(own.data()), own.data()}};
    if (ranks.transport() == "mpi") {
      const auto by_mpi = [&] { ranks.vendor_all_reduce(view(theirs.data()), ReduceOp::sum); };
      alternatives.push_back({"mpi", by_mpi, theirs.data()});
    }
    bench_size(ranks, alternatives, bytes, options, lines);
  }
  return lines;
}

void print_collectives(std::ostream& out, const std::vector<CollectiveBenchLine>& lines, int ranks) {
  out << fmt::format("{:>10} {:>10} {:>6} {:>6} {:>8} {:>10} {:>9} {:>9} {:>7} {:>7}\n", "size", "count", "type",
                     "redop", "by", "time", "algbw", "busbw", "#wrong", "of MPI");
  out << fmt::format("{:>10} {:>10} {:>6} {:>6} {:>8} {:>10} {:>9} {:>9} {:>7} {:>7}\n", "(B)", "(elements)", "", "",
                     "", "(us)", "(GB/s)", "(GB/s)", "", "(x)");
  for (const CollectiveBenchLine& line : lines)
    out << fmt::format("{:>10} {:>10} {:>6} {:>6} {:>8} {:>10.2f} {:>9.2f} {:>9.2f} {:>7} {:>7}\n", line.bytes,
                       line.bytes / 4, "float", "sum", line.algorithm, line.seconds * 1e6,
                       double(line.bytes) / line.seconds / 1e9, bus_bandwidth(line, ranks), line.wrong,
                       line.of_mpi > 0 ? fmt::format("{:.2f}", line.of_mpi) : "-");
}

std::vector<BenchmarkRow> collective_rows(const std::vector<CollectiveBenchLine>& lines, int ranks) {
  std::vector<BenchmarkRow> rows;
  for (const CollectiveBenchLine& line : lines) {
    const auto mpi = std::ranges::find_if(
        lines, [&](const CollectiveBenchLine& other) { return other.bytes == line.bytes && other.algorithm == "mpi"; });
    rows.push_back({.name = fmt::format("all_reduce {} B, {} ranks, {}", line.bytes, ranks, line.algorithm),
                    .value = bus_bandwidth(line, ranks),
                    .unit = "GB/s",
                    .roof = mpi != lines.end() ? bus_bandwidth(*mpi, ranks) : 0,
                    .share_of_roof = line.of_mpi,
                    .bytes = line.bytes,
                    .flops = line.bytes / 4 * (ranks - 1),
                    .note = fmt::format("{:.2f} us, {} wrong{}", line.seconds * 1e6, line.wrong,
                                        mpi != lines.end() ? ", roof: MPI_Allreduce of the same run" : "")});
  }
  return rows;
}

}  // namespace lockstep
