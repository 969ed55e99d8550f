// SPDX-License-Identifier: Apache-2.0
// What goes wrong between ranks, and that it is named and ends in time.
#include "collectives/host/thread_ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;

View view(std::vector<float>& values) {
  return {values.data(), DType::f32, DeviceKind::cpu, Shape{int64_t(values.size())}};
}

// The first error of a run on threads, which must end within a few seconds.
std::string first_error(const ThreadRanks& ranks, const std::function<void(Communicator&)>& body,
                        ErrorCode code = ErrorCode::collective) {
  const auto start = std::chrono::steady_clock::now();
  std::string message = "no error";
  try {
    run_thread_ranks(ranks, body);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    message = error.what();
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  return message;
}

const ThreadRanks kThree{.ranks = 3, .node_of = {}, .timeout = std::chrono::seconds(60)};
const ThreadRanks kImpatient{.ranks = 3, .node_of = {}, .timeout = std::chrono::milliseconds(200)};
const ThreadRanks kTwoNodes{.ranks = 3, .node_of = {0, 0, 1}, .timeout = std::chrono::milliseconds(200)};

TEST(ThreadRanks, ExceptionOfOneRankReleasesTheOthersAndComesFirst) {
  for (const ThreadRanks& group : {kThree, ThreadRanks{.ranks = 3, .node_of = {0, 1, 1}}}) {
    std::atomic<int> released{0};
    const std::string message = first_error(
        group,
        [&](Communicator& comm) {
          comm.barrier();
          if (comm.rank() == 1) fail(ErrorCode::numbers, "the loss is not a number");
          try {
            comm.barrier();
          } catch (const Error& error) {
            EXPECT_THAT(error.what(), HasSubstr("rank 1 failed"));
            ++released;
            throw;
          }
        },
        ErrorCode::numbers);
    EXPECT_EQ(message, "the loss is not a number");
    EXPECT_EQ(released, 2);
  }
}

TEST(ThreadRanks, TimeoutNamesTheRankThatDidNotCome) {
  Stream stream = Stream::cpu();
  for (const ThreadRanks& group : {kImpatient, kTwoNodes}) {
    const std::string message = first_error(group, [&](Communicator& comm) {
      std::vector<float> values(100'000);
      if (comm.rank() == 2) return;
      comm.all_reduce(view(values), ReduceOp::sum, stream).wait(stream);
    });
    EXPECT_THAT(message, AllOf(HasSubstr("rank 2 ("), HasSubstr("0.2 s"))) << message;
  }
}

TEST(ThreadRanks, DifferentSizesAreRefusedOnEveryRank) {
  Stream stream = Stream::cpu();
  for (const size_t n : {10, 100'000}) {
    std::atomic<int> refused{0};
    const std::string message = first_error(kThree, [&](Communicator& comm) {
      std::vector<float> values(comm.rank() == 1 ? n + 1 : n);
      try {
        comm.all_reduce(view(values), ReduceOp::sum, stream).wait(stream);
      } catch (const Error&) {
        ++refused;
        throw;
      }
    });
    EXPECT_THAT(message, AllOf(HasSubstr(str("all_reduce of ", n, " f32")),
                               HasSubstr(str("all_reduce of ", n + 1, " f32")), HasSubstr("rank 1 (")));
    EXPECT_EQ(refused, 3);
  }
}

TEST(ThreadRanks, DifferentSizesOnTwoNodesAreRefused) {
  Stream stream = Stream::cpu();
  const std::string message = first_error(kTwoNodes, [&](Communicator& comm) {
    std::vector<float> values(comm.rank() == 2 ? 40 : 60);
    comm.all_reduce(view(values), ReduceOp::sum, stream).wait(stream);
  });
  EXPECT_THAT(message, HasSubstr("the two are not in the same collective"));
}

TEST(ThreadRanks, DifferentKindsOperatorsDtypesRootsAreRefused) {
  Stream stream = Stream::cpu();
  std::vector<float> values(6);
  std::vector<int32_t> integers(6);
  const auto refused = [&](const auto& mine, const auto& theirs) {
    return first_error(kThree, [&](Communicator& comm) {
      std::vector<float> own(6);
      comm.rank() == 2 ? theirs(comm, view(own)) : mine(comm, view(own));
    });
  };
  const auto sum = [&](Communicator& comm, View x) { comm.all_reduce(x, ReduceOp::sum, stream).wait(stream); };
  const auto max = [&](Communicator& comm, View x) { comm.all_reduce(x, ReduceOp::max, stream).wait(stream); };
  const auto from_0 = [&](Communicator& comm, View x) { comm.broadcast(x, 0, stream).wait(stream); };
  const auto from_1 = [&](Communicator& comm, View x) { comm.broadcast(x, 1, stream).wait(stream); };
  const auto of_i32 = [&](Communicator& comm, View x) {
    comm.all_reduce({x.data, DType::i32, DeviceKind::cpu, x.shape}, ReduceOp::sum, stream).wait(stream);
  };
  const auto barrier = [](Communicator& comm, View) { comm.barrier(); };
  EXPECT_THAT(refused(sum, max), AllOf(HasSubstr("(sum)"), HasSubstr("(max)")));
  EXPECT_THAT(refused(sum, from_0), AllOf(HasSubstr("all_reduce"), HasSubstr("broadcast")));
  EXPECT_THAT(refused(from_0, from_1), AllOf(HasSubstr("from rank 0"), HasSubstr("from rank 1")));
  EXPECT_THAT(refused(sum, of_i32), AllOf(HasSubstr("6 f32"), HasSubstr("6 i32")));
  EXPECT_THAT(refused(sum, barrier), AllOf(HasSubstr("all_reduce"), HasSubstr("barrier")));
}

TEST(ThreadRanks, WrongArgumentsAreNamedBeforeAnythingIsSent) {
  Stream stream = Stream::cpu();
  std::vector<float> five(5), two(2);
  const ThreadRanks pair{.ranks = 2, .node_of = {}};
  EXPECT_THAT(first_error(pair, [&](Communicator& c) { (void)c.broadcast(view(five), 2, stream); }),
              HasSubstr("root 2"));
  EXPECT_THAT(first_error(pair, [&](Communicator& c) { (void)c.broadcast(view(five), -1, stream); }),
              HasSubstr("root -1"));
  EXPECT_THAT(
      first_error(pair, [&](Communicator& c) { (void)c.reduce_scatter(view(five), view(two), ReduceOp::sum, stream); }),
      HasSubstr("reduce_scatter: input of 5 elements is not 2 x 2"));
  EXPECT_THAT(first_error(pair, [&](Communicator& c) { (void)c.all_gather(view(two), view(five), stream); }),
              HasSubstr("all_gather: output of 5 elements is not 2 x 2"));
  EXPECT_THAT(first_error(pair,
                          [&](Communicator& c) {
                            c.exchange(std::vector{Outgoing{2, nullptr, 0}}, {});
                          }),
              HasSubstr("no peer 2"));
  EXPECT_THAT(first_error(pair,
                          [&](Communicator& c) {
                            (void)c.all_reduce({nullptr, DType::f32, DeviceKind::cpu, Shape{3}}, ReduceOp::sum, stream);
                          }),
              HasSubstr("no memory"));
  EXPECT_THAT(first_error(
                  {.ranks = 0, .node_of = {}}, [](Communicator&) {}, ErrorCode::usage),
              HasSubstr("got 0"));
}

TEST(ThreadRanks, OneOfManyFailingRanksReports) {
  std::atomic<int> reports{0};
  run_thread_ranks(5, [&](Communicator& comm) {
    if (comm.claim_error_report()) ++reports;
    if (comm.split(0, 0)->claim_error_report()) ++reports;
  });
  EXPECT_EQ(reports, 1);
}

TEST(ThreadRanks, AbortReleasesTheOthers) {
  std::atomic<int> released{0};
  first_error(kThree, [&](Communicator& comm) {
    if (comm.rank() == 0) return comm.abort(1);
    try {
      comm.barrier();
    } catch (const Error&) {
      ++released;
      throw;
    }
  });
  EXPECT_EQ(released, 2);
}

TEST(ThreadRanks, WindowsStayWhileAnyRankHoldsThem) {
  run_thread_ranks(3, [](Communicator& comm) {
    auto window = comm.allocate_shared(64);
    static_cast<char*>(window->segment(comm.rank()))[0] = char(comm.rank() + 1);
    comm.barrier();
    if (comm.rank() != 2) window.reset();
    comm.barrier();
    if (comm.rank() != 2) return;
    EXPECT_EQ(static_cast<char*>(window->segment(0))[0], 1);
    EXPECT_EQ(static_cast<char*>(window->segment(1))[0], 2);
  });
}

}  // namespace
}  // namespace lockstep
