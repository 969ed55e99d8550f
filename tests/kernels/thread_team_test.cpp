// SPDX-License-Identifier: Apache-2.0
#include "kernels/thread_team.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "kernels/parallel.h"

namespace lockstep::cpu {
namespace {

TEST(ThreadTeam, TakesEveryPartOnceOnAnyNumberOfThreads) {
  for (const int threads : {1, 2, 3, 7})
    for (const int64_t parts : {0, 1, 2, 5, 100}) {
      std::vector<int> taken(size_t(parts), 0);
      for (int round = 0; round < 50; ++round)
        parallel_parts(threads, parts, [&](int64_t part) { ++taken[size_t(part)]; });
      EXPECT_EQ(taken, std::vector<int>(size_t(parts), 50)) << threads << " threads";
    }
}

TEST(ThreadTeam, HasAThreadForEachMemberAndKeepsIt) {
  std::vector<std::thread::id> first(3), second(3);
  parallel_parts(3, 3, [&](int64_t part) { first[size_t(part)] = std::this_thread::get_id(); });
  parallel_parts(3, 3, [&](int64_t part) { second[size_t(part)] = std::this_thread::get_id(); });
  EXPECT_EQ(first[0], std::this_thread::get_id());
  EXPECT_NE(first[1], first[0]);
  EXPECT_NE(first[1], first[2]);
  EXPECT_EQ(first, second);
}

TEST(ThreadTeam, WakesHelpersThatSleep) {
  int64_t sum = 0;
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // longer than anybody looks
    std::vector<int64_t> parts(2);
    parallel_parts(2, 2, [&](int64_t part) { parts[size_t(part)] = part + 1; });
    sum += parts[0] + parts[1];
  }
  EXPECT_EQ(sum, 15);
}

// Looks for a time and the other is ready after `gap`, so many times; how often it slept meanwhile.
int sleeps(LookingTime& time, LookingTime::Duration gap, int waits) {
  int slept = 0;
  for (int wait = 0; wait < waits; ++wait) {
    if (time.now() >= gap) {
      time.was_ready();
    } else {
      time.slept();
      ++slept;
    }
  }
  return slept;
}

TEST(LookingTime, ComesBackAfterACoreWasTakenAwayOnce) {
  using std::chrono::microseconds;
  for (const microseconds gap : {microseconds(2), microseconds(20), microseconds(100)}) {
    LookingTime time;
    EXPECT_EQ(sleeps(time, gap, 100), 0) << gap.count() << " us";
    time.core_was_taken_away();
    EXPECT_GT(sleeps(time, gap, 8), 0) << gap.count() << " us";
    sleeps(time, gap, 500);
    EXPECT_EQ(sleeps(time, gap, 100), 0) << gap.count() << " us";
  }
}

// Where the core is shared for good, what is lost by looking stays small: 32 waits together less than a wake-up.
TEST(LookingTime, StaysShortWhereCoresAreShared) {
  LookingTime time;
  LookingTime::Duration looked{};
  time.core_was_taken_away();
  for (int wait = 0; wait < 32; ++wait) {
    looked += time.now();
    time.slept();
  }
  EXPECT_LT(looked / 32, std::chrono::microseconds(5));
}

TEST(ThreadTeam, RanksThatAreThreadsHaveTeamsOfTheirOwn) {
  std::vector<int64_t> sums(4);
  std::vector<std::thread> ranks;
  for (int64_t& sum : sums)
    ranks.emplace_back([&sum] {
      for (int round = 0; round < 20; ++round) {
        std::vector<int64_t> parts(3);
        parallel_parts(3, 3, [&](int64_t part) { parts[size_t(part)] = part; });
        for (const int64_t part : parts) sum += part;
      }
    });
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(sums, std::vector<int64_t>(4, 60));
}

}  // namespace
}  // namespace lockstep::cpu
