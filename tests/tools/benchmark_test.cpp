// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/benchmark.h"

#include <gmock/gmock.h>

#include <array>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>

#include "kernels/device/check.h"
#include "kernels/device/kernel_times.h"
#include "kernels/pointwise.h"
#include "optimizers/optimizer.h"
#include "runtime/autograd/tensor.h"
#include "tools/bench/kernel_bench.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Benchmark, MedianOfAnEvenNumberIsTheMiddleOfTheTwoMiddleOnes) {
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({5, 1, 3}), 3);
  EXPECT_EQ(median({4, 1, 3, 100}), 3.5);
  EXPECT_THROW(median({}), Error);
}

TEST(InterleavedTimes, RatiosAreTakenWithinARoundBeforeTheMedian) {
  // The second round was disturbed: both took ten times as long. The ratio does not see it.
  const InterleavedTimes times({{2, 20, 2}, {1, 10, 1}});
  EXPECT_EQ(times.seconds(0), 2);
  EXPECT_EQ(times.ratio(0, 1), 2);
  const InterleavedTimes crossed({{1, 2, 30}, {1, 20, 10}});
  EXPECT_EQ(crossed.ratio(0, 1), 1);  // of 1, 0.1 and 3; the ratio of the medians were 0.2
  EXPECT_EQ(InterleavedTimes({{1, 2, 3, 4, 5}}).spread(0), 1.0 / 3);
}

TEST(KernelTimes, AStreamEntersWhatItLaunchesUnderTheNamesOfKernels) {
  Stream stream = Stream::cpu();
  Pool pool(stream.device());
  const Tensor x(pool, DType::f32, {100}), y(pool, DType::f32, {100});
  KernelTimes times;
  launch(stream, Fill{x, 1.0f});
  stream.time_kernels(&times);
  launch(stream, Fill{x, 2.0f});
  launch(stream, UnaryGrad<Gelu>{.d_in = y, .d_out = x, .in = x});
  launch(stream, Fill{x, 3.0f});
  stream.time_kernels(nullptr);
  launch(stream, Fill{x, 4.0f});
  ASSERT_EQ(times.entries().size(), 2u);
  EXPECT_EQ(kernel_name(times.entries()[0].type), "Fill");
  EXPECT_EQ(times.entries()[0].calls, 2);
  EXPECT_GE(times.entries()[0].seconds, 0);
  EXPECT_EQ(kernel_name(times.entries()[1].type), "UnaryGrad<Gelu>");
  EXPECT_EQ(times.entries()[1].calls, 1);
}

TEST(TimeInterleaved, CallsTheAlternativesInTurnAfterWarmingUp) {
  std::string calls;
  const std::array<std::function<void()>, 2> alternatives = {[&] { calls += 'a'; }, [&] { calls += 'b'; }};
  time_interleaved(alternatives, {.warmup_rounds = 1, .rounds = 2, .seconds_per_sample = 0});
  EXPECT_EQ(calls,
            "ababab"
            "ab");  // one of each to see how long it takes, one round of warm-up, two that count
}

TEST(TimeInterleaved, RepeatsShortCallsUntilASampleLasts) {
  int64_t calls = 0;
  const std::array<std::function<void()>, 1> alternatives = {[&] { ++calls; }};
  const InterleavedTimes times = time_interleaved(alternatives, {.rounds = 1, .seconds_per_sample = 1e-3});
  EXPECT_GT(calls, 100);
  EXPECT_GT(times.seconds(0), 0);
}

TEST(TimeInterleaved, NoRoundsAreAnError) { EXPECT_THROW(time_interleaved({}, {.rounds = 0}), Error); }

const std::vector<BenchmarkRow> kRows = {
    {.name = "short", .value = 12.345, .unit = "GB/s", .roof = 24.69, .share_of_roof = 0.5, .bytes = 8, .flops = 3},
    {.name = "a long name", .value = 7, .unit = "us", .note = "no \"roof\""}};

TEST(BenchmarkRows, JsonHasExactlyTheAgreedFieldsInOrder) {
  std::ostringstream out;
  print_json(out, kRows);
  const auto rows = nlohmann::ordered_json::parse(out.str());
  ASSERT_EQ(rows.size(), 2u);
  std::vector<std::string> keys;
  for (const auto& [key, value] : rows[0].items()) keys.push_back(key);
  EXPECT_THAT(keys, ElementsAre("name", "value", "unit", "roof", "share_of_roof", "bytes", "flops", "note"));
  EXPECT_EQ(rows[0]["value"], 12.345);
  EXPECT_EQ(rows[0]["share_of_roof"], 0.5);
  EXPECT_EQ(rows[0]["bytes"], 8);
  EXPECT_EQ(rows[1]["note"], "no \"roof\"");
}

TEST(BenchmarkRows, JsonOfNoRowsIsAnEmptyArray) {
  std::ostringstream out;
  print_json(out, {});
  EXPECT_EQ(out.str(), "[]\n");
}

TEST(BenchmarkRows, TableIsAlignedAndShowsADashWithoutARoof) {
  std::ostringstream out;
  print_table(out, kRows);
  EXPECT_EQ(out.str(),
            "name         value  unit   roof  % of roof  note\n"
            "short        12.35  GB/s  24.69       50.0  \n"
            "a long name      7  us        -          -  no \"roof\"\n");
}

TEST(KernelBench, RowsNameEveryOptimizerAndCountBytesByFormula) {
  Stream stream = Stream::cpu();
  Pool pool(stream.device());
  const MemoryBenchOptions options{.elements = 1001, .timing = {.rounds = 3, .seconds_per_sample = 0}};
  const std::vector<BenchmarkRow> rows = bench_optimizers(stream, pool, options);
  std::vector<std::string> names;
  for (const std::string_view name : optimizer_names())
    if (!make_optimizer(name)->updates_by_tensor()) names.emplace_back(name);
  ASSERT_EQ(rows.size(), names.size() + 4);
  EXPECT_EQ(rows.back().name, "optimizer/adam/15x64");
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_THAT(rows[i].name, HasSubstr(names[i]));
    EXPECT_EQ(rows[i].bytes, 1001 * make_optimizer(names[i])->bytes_per_element());
    EXPECT_GT(rows[i].value, 0);
    EXPECT_GT(rows[i].roof, 0);
    EXPECT_GT(rows[i].share_of_roof, 0);
  }
  // Adam with a bf16 copy, in bf16 alone, and with an f16 copy.
  const std::array<std::pair<const char*, int64_t>, 3> narrow = {{{"bf16", 34}, {"bf16-stochastic", 28}, {"f16", 34}}};
  for (size_t i = 0; i < narrow.size(); ++i) {
    EXPECT_EQ(rows[names.size() + i].name, str("optimizer/adam/", narrow[i].first));
    EXPECT_EQ(rows[names.size() + i].bytes, 1001 * narrow[i].second);
  }
  EXPECT_EQ(pool.live_total(), 0);
}

TEST(KernelBench, MemoryRoofsCountReadAndWrittenBytes) {
  Stream stream = Stream::cpu(2);
  Pool pool(stream.device());
  const std::vector<BenchmarkRow> rows =
      bench_memory(stream, pool, {.elements = 1001, .timing = {.rounds = 3, .seconds_per_sample = 0}});
  ASSERT_EQ(rows.size(), 2u);
  for (const BenchmarkRow& row : rows) {
    EXPECT_EQ(row.bytes, 8008);
    EXPECT_THAT(row.note, HasSubstr("2 threads"));
  }
}

}  // namespace
}  // namespace lockstep
