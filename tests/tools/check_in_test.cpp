// SPDX-License-Identifier: Apache-2.0
// Ranks that tell each other how they are.
#include "tools/training/check_in.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <mutex>

#include "collectives/host/thread_ranks.h"
#include "tools/training/stop_request.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Products of oneDNN have no stack of their own for a handler.
TEST(StopRequest, HandlesSignalsOnTheStackThatThreadsKeepForThem) {
  const StopRequest asked;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2}) {
    struct sigaction installed {};
    sigaction(signal, nullptr, &installed);
    EXPECT_NE(installed.sa_flags & SA_ONSTACK, 0) << name_of_signal(signal);
  }
}

TEST(CheckIn, AllRanksStopAfterTheSameStepWhateverRankIsAsked) {
  for (const double seconds : {1e-6, 0.004, 0.1}) {
    std::mutex mutex;
    std::vector<int64_t> stopped_after;
    run_thread_ranks(3, [&](Communicator& ranks) {
      CheckIn check_in(ranks, 1);
      int64_t step = 0;
      while (check_in.signal() == 0) {
        const bool is_asked = ranks.rank() == 1 && step >= 5;
        check_in.step(seconds * (1 + ranks.rank()), 0, 0, is_asked ? SIGTERM : 0);
        ++step;
      }
      const std::lock_guard lock(mutex);
      EXPECT_EQ(check_in.signal(), SIGTERM);
      stopped_after.push_back(step);
    });
    EXPECT_EQ(stopped_after, std::vector<int64_t>(3, stopped_after[0]));
    EXPECT_GT(stopped_after[0], 5);
    EXPECT_LE(double(stopped_after[0] - 6) * seconds, 0.05);
  }
}

TEST(CheckIn, LeavesTheLogOfTheTrainingAlone) {
  run_thread_ranks(2, [](Communicator& ranks) {
    CheckIn check_in(ranks, 1);
    const uint64_t before = ranks.log().hash();
    for (int step = 0; step < 5; ++step) check_in.step(1, 0.5, 0.25, 0);
    EXPECT_EQ(ranks.log().hash(), before);
    ASSERT_EQ(check_in.times().size(), 2u);
    EXPECT_EQ(check_in.times()[1].compute, 0.5);
    EXPECT_EQ(check_in.times()[1].wait, 0.25);
  });
}

TEST(CheckIn, NamesAStragglerOnceWithWhereTimeGoes) {
  run_thread_ranks(3, [](Communicator& ranks) {
    CheckIn check_in(ranks, 2);
    std::vector<std::string> news;
    for (int step = 0; step < 100; ++step) {
      const bool is_slow = ranks.rank() == 2;
      check_in.step(0.5, is_slow ? 0.49 : 0.1, is_slow ? 0.01 : 0.4, 0);
      if (const std::string text = check_in.straggler_news(); !text.empty()) news.push_back(text);
    }
    ASSERT_EQ(news.size(), 1u);
    EXPECT_THAT(news[0], AllOf(HasSubstr("rank 2"),
                               HasSubstr("in the last 10 steps it computed for 4.90 s and waited for "
                                         "0.10 s"),
                               HasSubstr("computed for 1.00 s and waited for 4.00 s")));
  });
}

TEST(FindStraggler, LooksAtTheTimeOfAPart) {
  EXPECT_FALSE(find_straggler(std::vector<RankTimes>{{.compute = 5, .parts = 1}}));
  EXPECT_FALSE(find_straggler(std::vector<RankTimes>{{2, 0, 2}, {1, 0, 1}, {0, 3, 0}}));
  EXPECT_FALSE(find_straggler(std::vector<RankTimes>{{1.9, 0, 1}, {1, 0, 1}}));
  const auto found = find_straggler(std::vector<RankTimes>{{1, 3, 1}, {2.5, 0, 1}, {1.1, 2, 1}, {0.9, 3, 1}});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->rank, 1);
  EXPECT_EQ(found->middle.compute, 1);
}

TEST(StopRequest, KeepsTheFirstSignalAndGivesBackWhatWasThere) {
  struct sigaction before {};
  sigaction(SIGTERM, nullptr, &before);
  {
    const StopRequest asked;
    EXPECT_EQ(asked.signal(), 0);
    raise(SIGTERM);
    EXPECT_EQ(asked.signal(), SIGTERM);
    raise(SIGINT);  // a moment later: the same request
    EXPECT_EQ(asked.signal(), SIGTERM);
  }
  struct sigaction after {};
  sigaction(SIGTERM, nullptr, &after);
  EXPECT_EQ(after.sa_handler, before.sa_handler);
  EXPECT_EQ(StopRequest().signal(), 0);
  EXPECT_EQ(name_of_signal(SIGTERM), "SIGTERM");
  EXPECT_EQ(exit_code_of_signal(SIGUSR1), 0);
  EXPECT_EQ(exit_code_of_signal(SIGINT), 130);
}

}  // namespace
}  // namespace lockstep
