// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/device/device_collective_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <ostream>

#include "kernels/device/memory.h"
#include "kernels/device/transfer.h"
#include "runtime/plan/forecast.h"

namespace lockstep {

namespace {

using Clock = std::chrono::steady_clock;

// The integers are small, so that every order of addition is exact.
float term(int rank, int64_t i) { return float((i + rank) % 16); }

float sum_of_terms(int ranks, int64_t i) {
  float sum = 0;
  for (int rank = 0; rank < ranks; ++rank) sum += term(rank, i);
  return sum;
}

// One way to run a collective, on arrays that the bench fills and checks.
struct TimedCall {
  std::function<Work(Stream&)> start;
  View given, result;
  std::function<float(int64_t)> expected;  // element of `result`
};

class Bench {
 public:
  Bench(Communicator& ranks, Device device, DeviceTransport transport, const CollectiveBenchOptions& options)
      : ranks_(ranks),
        options_(options),
        elements_(options.largest_bytes / 4 + ranks.size()),
        pool_(device),
        compute_(Stream::cuda(device.index)),
        one_(pool_, elements_ * 4, Purpose::data),
        other_(pool_, elements_ * 4, Purpose::data),
        host_(device, elements_ * 4),
        comm_(make_device_communicator(ranks, device, transport)) {}

  DeviceCommunicator& comm() { return *comm_; }
  std::vector<DeviceCollectiveLine> run();

 private:
  DeviceCollectiveLine run(std::string_view kind, int64_t bytes);
  TimedCall prepare(std::string_view kind, int64_t part, bool in_place);
  TimedCall prepare_reduce_scatter(int64_t part, bool in_place);
  TimedCall prepare_all_gather(int64_t part, bool in_place);
  int64_t wrong_elements(const TimedCall& call);
  double sample(const std::function<void()>& call, int64_t calls);
  void roof(int64_t bytes);

  View whole(int64_t part) const { return one_.view(DType::f32, Shape{part * ranks_.size()}); }
  View own(const View& whole, int64_t part) const {
    return slice(whole, ranks_.rank() * part, (ranks_.rank() + 1) * part);
  }
  View apart(int64_t part) const { return other_.view(DType::f32, Shape{part}); }

  Communicator& ranks_;
  CollectiveBenchOptions options_;
  int64_t elements_;
  Pool pool_;
  Stream compute_;
  Buffer one_, other_;
  PinnedBuffer host_;
  std::unique_ptr<DeviceCommunicator> comm_;
};

TimedCall Bench::prepare_reduce_scatter(int64_t part, bool in_place) {
  const View in = whole(part), out = in_place ? own(in, part) : apart(part);
  return {[this, in, out](Stream& after) { return comm_->reduce_scatter(in, out, ReduceOp::sum, after); }, in, out,
          [this, part](int64_t i) { return sum_of_terms(ranks_.size(), ranks_.rank() * part + i); }};
}

TimedCall Bench::prepare_all_gather(int64_t part, bool in_place) {
  const View out = whole(part), in = in_place ? own(out, part) : apart(part);
  return {[this, in, out](Stream& after) { return comm_->all_gather(in, out, after); }, in, out,
          [part](int64_t i) { return term(int(i / part), i % part); }};
}

// Has no `start` where the collective is not offered that way.
TimedCall Bench::prepare(std::string_view kind, int64_t part, bool in_place) {
  if (kind == "reduce_scatter") return prepare_reduce_scatter(part, in_place);
  if (kind == "all_gather") return prepare_all_gather(part, in_place);
  if (!in_place) return {};
  const View all = whole(part);
  if (kind == "broadcast")
    return {[this, all](Stream& after) { return comm_->broadcast(all, 0, after); }, all, all,
            [](int64_t i) { return term(0, i); }};
  return {[this, all](Stream& after) { return comm_->all_reduce(all, ReduceOp::sum, after); }, all, all,
          [this](int64_t i) { return sum_of_terms(ranks_.size(), i); }};
}

int64_t Bench::wrong_elements(const TimedCall& call) {
  auto* values = static_cast<float*>(host_.data());
  for (int64_t i = 0; i < call.given.size(); ++i) values[i] = term(ranks_.rank(), i);
  copy(compute_, call.given.data, values, call.given.bytes());
  call.start(compute_).wait(compute_);
  copy(compute_, values, call.result.data, call.result.bytes());
  comm_->synchronize(compute_);
  int64_t wrong = 0;
  for (int64_t i = 0; i < call.result.size(); ++i) wrong += values[i] != call.expected(i);
  Stream stream = Stream::cpu();
  ranks_.all_reduce({&wrong, DType::i64, DeviceKind::cpu, Shape{1}}, ReduceOp::sum, stream).wait(stream);
  return wrong;
}

// The longest time of any rank for one call, measured over `calls`. All ranks get the same number.
double Bench::sample(const std::function<void()>& call, int64_t calls) {
  ranks_.barrier();
  const auto start = Clock::now();
  for (int64_t i = 0; i < calls; ++i) call();
  comm_->synchronize(compute_);
  double seconds = std::chrono::duration<double>(Clock::now() - start).count() / double(calls);
  Stream stream = Stream::cpu();
  ranks_.all_reduce({&seconds, DType::f64, DeviceKind::cpu, Shape{1}}, ReduceOp::max, stream).wait(stream);
  return seconds;
}

void Bench::roof(int64_t bytes) {
  if (comm_->transport() == "staged") {
    copy(compute_, host_.data(), one_.data(), bytes);
    copy(compute_, other_.data(), host_.data(), bytes);
  } else {
    copy(compute_, other_.data(), one_.data(), bytes);
  }
}

DeviceCollectiveLine Bench::run(std::string_view kind, int64_t bytes) {
  const int64_t part = std::max<int64_t>(1, bytes / 4 / ranks_.size());
  const bool cut = kind == "reduce_scatter" || kind == "all_gather";
  DeviceCollectiveLine line{.kind = kind, .bytes = part * ranks_.size() * 4, .count = part * (cut ? 1 : ranks_.size())};
  std::vector<std::function<void()>> timed{[this, n = line.bytes] { roof(n); }};
  std::vector<DeviceCollectiveLine::Way*> ways;
  for (auto* way : {&line.apart, &line.in_place}) {
    const TimedCall call = prepare(kind, part, way == &line.in_place);
    if (!call.start) continue;
    way->offered = true;
    way->wrong = wrong_elements(call);
    ways.push_back(way);
    timed.push_back([this, start = call.start] { start(compute_).wait(compute_); });
  }
  clear(compute_, whole(part));  // sums grow from call to call
  std::vector<int64_t> calls;
  for (const auto& call : timed) {
    sample(call, 1);
    calls.push_back(std::clamp<int64_t>(int64_t(options_.seconds_per_sample / sample(call, 3)), 1, 20'000));
  }
  std::vector<std::vector<double>> seconds(timed.size());
  for (int round = 0; round < options_.rounds; ++round)
    for (size_t i = 0; i < timed.size(); ++i) seconds[i].push_back(sample(timed[i], calls[i]));
  const InterleavedTimes times(seconds);
  for (size_t i = 0; i < ways.size(); ++i) {
    ways[i]->seconds = times.seconds(i + 1);
    ways[i]->of_roof = times.ratio(0, i + 1);
  }
  return line;
}

std::vector<DeviceCollectiveLine> Bench::run() {
  std::vector<DeviceCollectiveLine> lines;
  for (const std::string_view kind : {"all_reduce", "reduce_scatter", "all_gather", "broadcast"})
    for (int64_t bytes = options_.smallest_bytes; bytes <= options_.largest_bytes; bytes *= options_.factor)
      lines.push_back(run(kind, bytes));
  return lines;
}

// The bytes that a ring moves over the slowest link, in units of the whole array.
double bus_factor(std::string_view kind, int ranks) {
  if (kind == "broadcast") return ranks > 1 ? 1 : 0;
  return (kind == "all_reduce" ? 2.0 : 1.0) * (ranks - 1) / ranks;
}

std::string cells(const DeviceCollectiveLine& line, const DeviceCollectiveLine::Way& way, int ranks) {
  if (!way.offered) return fmt::format("{:>9} {:>7} {:>7} {:>6}", "N/A", "N/A", "N/A", "N/A");
  const double algorithm = double(line.bytes) / way.seconds / 1e9;
  return fmt::format("{:>9.2f} {:>7.2f} {:>7.2f} {:>6}", way.seconds * 1e6, algorithm,
                     algorithm * bus_factor(line.kind, ranks), way.wrong);
}

void print_footer(std::ostream& out, const std::vector<DeviceCollectiveLine>& lines, int ranks) {
  int64_t wrong = 0;
  double bandwidth = 0;
  int ways = 0;
  for (const DeviceCollectiveLine& line : lines)
    for (const auto* way : {&line.apart, &line.in_place}) {
      if (!way->offered) continue;
      wrong += way->wrong;
      bandwidth += double(line.bytes) / way->seconds / 1e9 * bus_factor(line.kind, ranks);
      ++ways;
    }
  out << fmt::format("# Out of bounds values : {} {}\n# Avg bus bandwidth    : {:.4f}\n#\n", wrong,
                     wrong == 0 ? "OK" : "FAILED", bandwidth / std::max(1, ways));
}

void print_kind(std::ostream& out, const std::vector<DeviceCollectiveLine>& lines, int ranks) {
  constexpr const char* kColumns = "{} {:>11} {:>12} {:>6} {:>6} {:>5}  {:>32}  {:>32}\n";
  const std::string names = fmt::format("{:>9} {:>7} {:>7} {:>6}", "time", "algbw", "busbw", "#wrong");
  const std::string units = fmt::format("{:>9} {:>7} {:>7} {:>6}", "(us)", "(GB/s)", "(GB/s)", "");
  const std::string_view kind = lines[0].kind;
  out << "# " << kind << '\n';
  out << fmt::format(kColumns, "#", "", "", "", "", "", "out-of-place  ", "in-place  ");
  out << fmt::format(kColumns, "#", "size", "count", "type", "redop", "root", names, names);
  out << fmt::format(kColumns, "#", "(B)", "(elements)", "", "", "", units, units);
  const bool sums = kind == "all_reduce" || kind == "reduce_scatter";
  for (const DeviceCollectiveLine& line : lines)
    out << fmt::format(kColumns, " ", line.bytes, line.count, "float", sums ? "sum" : "none",
                       kind == "broadcast" ? 0 : -1, cells(line, line.apart, ranks), cells(line, line.in_place, ranks));
  print_footer(out, lines, ranks);
}

// Alpha and beta of the all-reduces of gradients, and what follows for training. Nothing where times do not grow.
void print_fit(std::ostream& out, const DeviceCollectiveBench& bench) {
  std::vector<const DeviceCollectiveLine*> sums;
  for (const DeviceCollectiveLine& line : bench.lines)
    if (line.kind == "all_reduce" && line.in_place.offered) sums.push_back(&line);
  if (bench.ranks() < 2 || sums.size() < 2) return;
  const DeviceCollectiveLine &small = *sums.front(), &large = *sums.back();
  if (large.in_place.seconds <= small.in_place.seconds) return;
  const LinkCost link = fit_link(CollectiveKind::all_reduce, bench.ranks(), small.bytes, small.in_place.seconds,
                                 large.bytes, large.in_place.seconds);
  const int64_t bucket = bucket_bytes_for({bench.ranks(), bench.ranks()}, {"", link, link, 0});
  out << fmt::format(
      "# Fitted to all_reduce of {} B and {} B: alpha {:.1f} us, beta {:.2f} GB/s; train with "
      "--bucket-mib {}\n#\n",
      small.bytes, large.bytes, link.alpha_seconds * 1e6, 1e-9 / link.seconds_per_byte, bucket >> 20);
}

}  // namespace

DeviceCollectiveBench bench_device_collectives(Communicator& ranks, Device device, DeviceTransport transport,
                                               const CollectiveBenchOptions& options) {
  Bench bench(ranks, device, transport, options);
  const CudaDevice gpu = find_cuda_devices().devices[size_t(device.index)];
  DeviceCollectiveBench result{.transport = std::string(bench.comm().transport()), .devices = {}, .lines = {}};
  result.devices = ranks.all_gather_bytes(
      fmt::format("{} device {:>2} [{}] {}", ranks.place().host, device.index, gpu.bus_id, gpu.name));
  result.lines = bench.run();
  return result;
}

void print_device_collectives(std::ostream& out, const DeviceCollectiveBench& bench) {
  const std::string nccl = bench.transport == "nccl" ? describe_nccl() : "";
  out << fmt::format("# Transport: {}{}\n# Using devices\n", bench.transport, nccl.empty() ? "" : ", " + nccl);
  for (int rank = 0; rank < bench.ranks(); ++rank)
    out << fmt::format("#  Rank {:>2} on {}\n", rank, bench.devices[size_t(rank)]);
  out << "#\n";
  for (auto first = bench.lines.begin(); first != bench.lines.end();) {
    const auto end = std::find_if(first, bench.lines.end(), [&](const auto& line) { return line.kind != first->kind; });
    print_kind(out, {first, end}, bench.ranks());
    first = end;
  }
  print_fit(out, bench);
}

std::vector<BenchmarkRow> device_collective_rows(const DeviceCollectiveBench& bench) {
  std::vector<BenchmarkRow> rows;
  const int ranks = bench.ranks();
  for (const DeviceCollectiveLine& line : bench.lines)
    for (const auto* way : {&line.apart, &line.in_place}) {
      if (!way->offered) continue;
      const double factor = ranks > 1 ? bus_factor(line.kind, ranks) : 1;
      const double value = double(line.bytes) / way->seconds / 1e9 * factor;
      rows.push_back(
          {.name = fmt::format("{} {} B, {} GPU{}, {}, {}", line.kind, line.bytes, ranks, ranks == 1 ? "" : "s",
                               bench.transport, way == &line.in_place ? "in place" : "out of place"),
           .value = value,
           .unit = "GB/s",
           .roof = value / way->of_roof,
           .share_of_roof = way->of_roof,
           .bytes = line.bytes,
           .flops = 0,
           .note = fmt::format("{:.2f} us, {} wrong, roof: the same bytes copied {}", way->seconds * 1e6, way->wrong,
                               bench.transport == "staged" ? "to the host and back" : "within a GPU")});
    }
  return rows;
}

}  // namespace lockstep
