// SPDX-License-Identifier: Apache-2.0
// The log of a group: what enters it, that its hash tells sequences apart, and that ranks whose logs differ hear which
// two calls do.
#include "collectives/call_log.h"

#include <gmock/gmock.h>

#include "kernels/device/graph.h"
#include "tests/support/device_ranks.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr IssuedCall kSum{.kind = CollectiveKind::all_reduce, .dtype = DType::f32, .bytes = 24};
constexpr IssuedCall kBroadcast{.kind = CollectiveKind::broadcast, .dtype = DType::f32, .bytes = 24};

uint64_t hash_of(std::initializer_list<IssuedCall> calls) {
  CallLog log(2);
  for (const IssuedCall& call : calls) log.enter(call);
  return log.hash();
}

TEST(CallLog, HashTellsEveryFieldAndTheOrderOfCallsApart) {
  const auto changed = [](auto field, auto value) {
    IssuedCall call = kSum;
    call.*field = value;
    return call;
  };
  std::vector<uint64_t> hashes{hash_of({}),
                               hash_of({kSum}),
                               hash_of({kSum, kSum}),
                               hash_of({kSum, kBroadcast}),
                               hash_of({kBroadcast, kSum}),
                               hash_of({changed(&IssuedCall::kind, CollectiveKind::all_gather)}),
                               hash_of({changed(&IssuedCall::dtype, DType::bf16)}),
                               hash_of({changed(&IssuedCall::op, ReduceOp::max)}),
                               hash_of({changed(&IssuedCall::root, 1)}),
                               hash_of({changed(&IssuedCall::bytes, 32)})};
  EXPECT_EQ(hash_of({kSum, kBroadcast}), hash_of({kSum, kBroadcast})) << "places in the source do not count";
  for (uint64_t& hash : hashes) hash = uint32_t(hash);  // as much of it as ranks of a node compare
  std::ranges::sort(hashes);
  EXPECT_EQ(std::ranges::adjacent_find(hashes), hashes.end());
}

TEST(CallLog, OneRankAloneEntersNothing) {
  CallLog log(1);
  log.keep_records(true);
  log.enter(kSum);
  EXPECT_EQ(log.number(), 0u);
  EXPECT_THAT(log.records(), IsEmpty());
}

TEST(CallLog, EntersACollectiveMadeOfOthersOnce) {
  CallLog log(2);
  log.enter(kSum);
  {
    const CallLog::Parts parts(log);
    log.enter(kBroadcast);
  }
  EXPECT_EQ(log.number(), 1u);
  EXPECT_EQ(log.hash(), hash_of({kSum}));
}

TEST(CallLog, EntersWhatAGraphRecordsWithEveryLaunch) {
  CallLog log(2);
  log.keep_records(true);
  const CallLog::Calls calls = log.capture([&] {
    log.enter(kSum);
    log.enter(kBroadcast);
  });
  EXPECT_EQ(log.number(), 0u);
  log.enter(calls);
  log.enter(calls);
  EXPECT_EQ(log.hash(), hash_of({kSum, kBroadcast, kSum, kBroadcast}));
  EXPECT_EQ(log.records()[2], (CollectiveRecord{CollectiveKind::all_reduce, DType::f32, "ranks", 24}));
}

TEST(CallLog, RemembersTheLatestCallsForMessages) {
  RecentCalls a, b;
  CallLog log_a(2), log_b(2);
  log_a.publish_in(a);
  log_b.publish_in(b);
  const auto difference = [&] { return describe_difference("data", a, "A", b, "B"); };
  for (int i = 0; i < 40; ++i) log_a.enter(kSum), log_b.enter(kSum);
  log_a.enter(kBroadcast);
  EXPECT_EQ(difference(), "") << "B has not come so far yet";
  EXPECT_THAT(
      describe_mismatch("data", a, "A", b, "B"),
      AllOf(
          HasSubstr("A has issued 41 collectives of 'data', the last of them broadcast of 24 B of f32 from rank 0 at "),
          HasSubstr(", and B 40")));
  log_b.enter(kSum);
  EXPECT_THAT(difference(), AllOf(HasSubstr("call 41 of 'data' is broadcast of 24 B of f32 from rank 0 at call_log_"),
                                  HasSubstr(" on A and all_reduce of 24 B of f32 (sum) at call_log_test.cpp:")));
  for (uint64_t i = 0; i < RecentCalls::kCalls; ++i) log_a.enter(kSum), log_b.enter(kSum);
  EXPECT_EQ(difference(), "") << "too long ago";
}

std::string error_of_ranks(const ThreadRanks& group, const std::function<void(Communicator&)>& body) {
  try {
    run_thread_ranks(group, body);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// Collectives that the ranks never met for, as those of reducers and devices, are compared when they meet next.
TEST(CallLog, RanksOfANodeThatEnteredDifferentCallsAreRefusedWhenTheyMeet) {
  const std::string message = error_of_ranks({.ranks = 3, .node_of = {}}, [](Communicator& comm) {
    comm.log().set_name("data");
    comm.log().enter(kSum);
    comm.log().enter(comm.rank() == 1 ? kBroadcast : kSum);
    comm.barrier();
  });
  EXPECT_THAT(message, AllOf(HasSubstr("have issued different collectives: call 2 of 'data' is "),
                             HasSubstr("all_reduce of 24 B of f32 (sum) at call_log_test.cpp:"),
                             HasSubstr("broadcast of 24 B of f32 from rank 0 at call_log_test.cpp:"),
                             HasSubstr("rank 1 ("), HasSubstr("same order")));
}

TEST(CallLog, ACallThatOneRankLeftOutIsNoticedThoughTheMeetingIsTheSame) {
  EXPECT_THAT(
      error_of_ranks({.ranks = 2, .node_of = {}},
                     [](Communicator& comm) {
                       if (comm.rank() == 0) comm.log().enter(kSum);
                       comm.barrier();
                     }),
      AllOf(HasSubstr("have issued different collectives: rank 0 ("),
            HasSubstr(" has issued 1 collectives of 'ranks', the last of them all_reduce of 24 B of f32 (sum) at "),
            HasSubstr(" 0; every rank must")));
}

TEST(CallLog, NodesThatEnteredDifferentCallsAreRefusedAtABarrier) {
  const std::string message = error_of_ranks({.ranks = 4, .node_of = {0, 0, 1, 1}}, [](Communicator& comm) {
    comm.log().enter(comm.place().node == 1 ? kBroadcast : kSum);
    comm.barrier();
  });
  EXPECT_THAT(message, AllOf(HasSubstr("call 1 of 'ranks' is "), HasSubstr("all_reduce of 24 B"),
                             HasSubstr("broadcast of 24 B"), HasSubstr("rank 2 (")));
}

TEST(CallLog, DifferentCallsAreNamedWithTheirPlaces) {
  const std::string message = error_of_ranks({.ranks = 2, .node_of = {}}, [](Communicator& comm) {
    Stream stream = Stream::cpu();
    float cells[6] = {};
    const View view{cells, DType::f32, DeviceKind::cpu, Shape{6}};
    if (comm.rank() == 0)
      comm.all_reduce(view, ReduceOp::sum, stream).wait(stream);
    else
      comm.broadcast(view, 0, stream).wait(stream);
  });
  EXPECT_THAT(message, AllOf(HasSubstr("calls"), HasSubstr("call 1 of 'ranks' is "),
                             HasSubstr("all_reduce of 24 B of f32 (sum) at call_log_test.cpp:"),
                             HasSubstr("broadcast of 24 B of f32 from rank 0 at call_log_test.cpp:")));
}

TEST(CallLog, ARankThatWaitsInVainHearsOfDifferentCalls) {
  const ThreadRanks impatient{.ranks = 2, .node_of = {}, .timeout = std::chrono::milliseconds(200)};
  const std::string message = error_of_ranks(impatient, [](Communicator& comm) {
    comm.log().enter(comm.rank() == 1 ? kBroadcast : kSum);
    if (comm.rank() == 0) comm.barrier();
  });
  EXPECT_THAT(message, AllOf(HasSubstr("these have not come: rank 1"), HasSubstr("call 1 of 'ranks' is all_reduce"),
                             HasSubstr("broadcast of 24 B")));
}

TEST(DeviceCallLog, HoldsCollectivesOfDevicesAndGraphsAmongThoseOfTheHost) {
  on_every_device_group([](DeviceRank& on) {
    CallLog& log = on.comm.ranks().log();
    const uint64_t first = log.number();
    const size_t before = log.records().size();
    log.keep_records(true);
    DeviceVector<float> values(on, 6, 1), parts(on, size_t(6 * on.size()), 1);
    on.comm.all_reduce(values.view(), ReduceOp::sum, on.compute).wait(on.compute);
    int64_t cell = 1;
    Stream cpu = Stream::cpu();
    on.comm.ranks().all_reduce({&cell, DType::i64, DeviceKind::cpu, Shape{}}, ReduceOp::sum, cpu).wait(cpu);
    on.comm.all_gather(values.view(), parts.view(), on.compute).wait(on.compute);
    on.comm.reduce_scatter(parts.view(), values.view(), ReduceOp::sum, on.compute).wait(on.compute);
    on.comm.broadcast(values.view(), 0, on.compute).wait(on.compute);
    uint64_t launches = 0;
    if (on.comm.recordable()) {
      CallLog::Calls calls;
      Graph graph = Graph::record(on.compute, [&] {
        calls = log.capture([&] { on.comm.all_reduce(values.view(), ReduceOp::max, on.compute).wait(on.compute); });
      });
      for (; launches < 3; ++launches) {
        log.enter(calls);
        graph.launch(on.compute);
      }
    }
    log.keep_records(false);
    on.comm.synchronize(on.compute);
    if (on.size() == 1) {
      EXPECT_EQ(log.number(), 0u);
      return;
    }
    const int64_t all = 24 * on.size();
    std::vector<CollectiveRecord> expected{{CollectiveKind::all_reduce, DType::f32, "ranks", 24},
                                           {CollectiveKind::all_reduce, DType::i64, "ranks", 8},
                                           {CollectiveKind::all_gather, DType::f32, "ranks", all},
                                           {CollectiveKind::reduce_scatter, DType::f32, "ranks", all},
                                           {CollectiveKind::broadcast, DType::f32, "ranks", 24}};
    expected.insert(expected.end(), launches, expected[0]);
    EXPECT_EQ(std::vector(log.records().begin() + std::ptrdiff_t(before), log.records().end()), expected);
    EXPECT_EQ(log.number() - first, expected.size());
    on.comm.ranks().barrier();
  });
}

}  // namespace
}  // namespace lockstep
