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
