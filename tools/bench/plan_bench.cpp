// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/plan_bench.h"

#include <malloc.h>
#include <sys/resource.h>

#include <array>

#include "kernels/device/check.h"
#include "runtime/plan/planner.h"

namespace lockstep {
namespace {

constexpr int kBlocks = 1250;  // eight variables each

VariableTable many_variables() {
  VariableTable variables;
  for (int i = 0; i < kBlocks; ++i) {
    const std::string block = str("decoder/block_", i, "/");
    for (const char* matrix :
         {"attention/query_key_value/weight", "attention/output/weight", "mlp/up/weight", "mlp/down/weight"}) {
      variables.parameter(block + matrix, {256, 512}, {});
      variables.parameter(block + matrix + "_bias", {512}, {});
    }
  }
  return variables;
}

std::vector<LayoutRule> rules() {
  return {{".*/(query_key_value|up)/weight", Layout{{"", "model"}}, ""},
          {".*/(output|down)/weight", Layout{{"model", ""}}, ""}};
}

int64_t heap_bytes() {
  const struct mallinfo2 info = mallinfo2();
  return int64_t(info.uordblks) + int64_t(info.hblkhd);
}

}  // namespace

std::vector<BenchmarkRow> bench_planning() {
  const VariableTable variables = many_variables();
  const auto adam = make_optimizer("adam");
  const auto plan_on = [&](int ranks, Copies copies) {
    return make_plan({.variables = variables,
                      .optimizer = *adam,
                      .settings = {.mesh = {{"data", ranks / 4}, {"model", 4}},
                                   .layout_rules = rules(),
                                   .zero = copies == Copies::per_rank ? 1 : 0,
                                   .bucket_bytes = 64 << 20,
                                   .copies = copies,
                                   .ranks_per_node = 8}});
  };
  std::vector<BenchmarkRow> rows;
  for (const Copies copies : {Copies::per_rank, Copies::per_node}) {
    const std::array<int, 3> ranks = {1000, 10'000, 100'000};
    std::vector<std::function<void()>> calls;
    for (const int n : ranks) calls.push_back([&plan_on, n, copies] { (void)plan_on(n, copies); });
    const InterleavedTimes times = time_interleaved(calls, {.rounds = 5});
    for (size_t i = 0; i < ranks.size(); ++i) {
      const int64_t before = heap_bytes();
      const Plan plan = plan_on(ranks[i], copies);
      const int64_t held = heap_bytes() - before;
      rows.push_back({.name = str("plan/", to_string(copies), "/", ranks[i], "_ranks"),
                      .value = times.seconds(i) * 1e3,
                      .unit = "ms",
                      .roof = times.seconds(0) * 1e3,
                      .share_of_roof = times.ratio(0, i),
                      .bytes = held,
                      .note = str(variables.declarations().size(), " variables, ", plan.variables.size(),
                                  " with slots, planned and checked; bytes: held by the plan; roof: 1000 ranks")});
    }
  }
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  rows.push_back({.name = "plan/peak_of_the_process",
                  .value = double(usage.ru_maxrss) / 1024,
                  .unit = "MiB",
                  .note = "resident, the program and its libraries included"});
  return rows;
}

}  // namespace lockstep
