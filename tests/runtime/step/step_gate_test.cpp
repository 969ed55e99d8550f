// SPDX-License-Identifier: Apache-2.0
// Ranks on different nodes, whose logs nobody compares within a step but the gate.
#include "runtime/step/step_gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "collectives/host/thread_ranks.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int kRanks = 3;

IssuedCall call_of(CollectiveKind kind, DType dtype, ReduceOp op, int64_t bytes) {
  return {.kind = kind, .dtype = dtype, .op = op, .root = 0, .bytes = bytes};
}
const IssuedCall kSum = call_of(CollectiveKind::all_reduce, DType::f32, ReduceOp::sum, 64);
const IssuedCall kGather = call_of(CollectiveKind::all_gather, DType::f32, ReduceOp::sum, 128);

// The end of a step in which this rank has issued these calls; verdicts are the ranks' numbers.
void end_step(Communicator& ranks, StepGate& gate, int64_t step, const std::vector<IssuedCall>& calls) {
  Stream host = Stream::cpu();
  std::vector<double> values(2 + kRanks);
  const StepCells cells{.values = values.data(), .parts = 2, .sums = 0, .ranks = kRanks};
  cells.verdict(ranks.rank()) = ranks.rank();
  gate.begin_step(step);
  for (const IssuedCall& call : calls) ranks.log().enter(call);
  gate.seal(cells);
  ranks.all_reduce({values.data(), DType::f64, DeviceKind::cpu, Shape{2 + kRanks}}, ReduceOp::sum, host).wait(host);
  gate.pass(cells);
  for (int rank = 0; rank < kRanks; ++rank) EXPECT_EQ(cells.verdict(rank), rank);
}

// What is said where the last rank issues `theirs` in step 7, after a step in which all are alike; by all ranks.
std::string refused(const std::vector<IssuedCall>& theirs, uint64_t their_plan = 5, int64_t their_step = 7) {
  std::mutex mutex;
  std::vector<std::string> said;
  try {
    run_thread_ranks({.ranks = kRanks, .node_of = {0, 1, 2}}, [&](Communicator& ranks) {
      const bool last = ranks.rank() == kRanks - 1;
      StepGate gate(ranks, last ? their_plan : 5);
      if (their_plan == 5) end_step(ranks, gate, 6, {kSum, kGather});
      try {
        end_step(ranks, gate, last ? their_step : 7, last ? theirs : std::vector{kSum, kGather});
      } catch (const Error& error) {
        const std::lock_guard lock(mutex);
        said.emplace_back(error.what());
        throw;
      }
    });
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::collective);
  }
  EXPECT_EQ(said.size(), size_t(kRanks)) << "all ranks are to stop before the update";
  return said.empty() ? std::string() : said[0];
}

TEST(StepGate, NamesBothSidesOfEveryKindOfMismatch) {
  const auto both = [](const char* mine, const char* theirs) {
    return AllOf(HasSubstr("rank 0 ("), HasSubstr("rank 2 ("), HasSubstr(mine), HasSubstr(theirs),
                 HasSubstr("step_gate_test.cpp:"), HasSubstr("before the update of step 7"));
  };
  IssuedCall other = kSum;
  other.bytes = 60;
  EXPECT_THAT(refused({other, kGather}), both("all_reduce of 64 B of f32 (sum)", "all_reduce of 60 B of f32 (sum)"));
  other = kSum;
  other.dtype = DType::i32;
  EXPECT_THAT(refused({other, kGather}), both("64 B of f32 (sum)", "64 B of i32 (sum)"));
  other = kSum;
  other.op = ReduceOp::max;
  EXPECT_THAT(refused({other, kGather}), both("64 B of f32 (sum)", "64 B of f32 (max)"));
  other = kSum;
  other.kind = CollectiveKind::reduce_scatter;
  EXPECT_THAT(refused({other, kGather}), both("all_reduce of 64 B", "reduce_scatter of 64 B"));
  EXPECT_THAT(refused({kGather, kSum}), both("all_reduce of 64 B", "all_gather of 128 B"));
  EXPECT_THAT(refused({kGather}), both("all_reduce of 64 B", "all_gather of 128 B"));
}

TEST(StepGate, NamesPlansAndStepsThatDiffer) {
  EXPECT_THAT(refused({kSum, kGather}, 6), HasSubstr("their plans have the hashes 5 and 6"));
  EXPECT_THAT(refused({kSum, kGather}, 5, 8), AllOf(HasSubstr("is in step 7"), HasSubstr("in step 8")));
}

TEST(StepGate, LetsRanksPassThatAreAlike) {
  run_thread_ranks({.ranks = kRanks, .node_of = {0, 1, 2}}, [&](Communicator& ranks) {
    StepGate gate(ranks, 5);
    for (int64_t step = 0; step < 50; ++step) end_step(ranks, gate, step, {kSum, kGather});
  });
}

}  // namespace
}  // namespace lockstep
