// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <thread>

#include "collectives/gradients/host_gradient_reducer.h"
#include "collectives/gradients/tree_sum.h"
#include "collectives/host/node_group.h"
#include "tests/support/cases.h"
#include "tests/support/owned_buckets.h"
#include "tests/support/ranks.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Row = std::vector<float>;

constexpr int64_t kElements = 9 * 32 * 1024;

// Three buckets of different sizes; the last is smaller than the ranks' slices.
std::vector<GradientBucket> three_buckets(const Communicator& comm) {
  return owned_buckets(comm, {{.begin = 0, .end = 128, .members = 1, .name = "bias"},
                              {.begin = 128, .end = 200'000, .members = 3, .name = "hidden"},
                              {.begin = 200'032, .end = 200'064, .members = 2, .name = "output"}});
}

Row gradient(int step, int leaf) {
  std::minstd_rand random(unsigned(step * 1000 + leaf + 1));
  Row row(size_t(kElements), 0.0f);
  for (float& x : row) x = float(int(random() % 2'000'001) - 1'000'000) * std::exp2(-float(random() % 24));
  return row;
}

Row tree_reference(int step, LeafRange leaves) {
  if (leaves.size() == 1) return gradient(step, leaves.begin);
  const int middle = leaves.begin + left_leaves(leaves.size());
  Row sum = tree_reference(step, {leaves.begin, middle});
  const Row right = tree_reference(step, {middle, leaves.end});
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += right[i];
  return sum;
}

// One step as train_step runs it. Buckets fill in another order than planned, different on every rank.
void run_step(Communicator& comm, GradientReducer& reducer, int step, Stream& stream) {
  std::minstd_rand random(unsigned(comm.rank() * 31 + step + 1));
  for (int leaf = reducer.first_part(); leaf < reducer.last_part(); ++leaf) {
    const View arena = reducer.begin_part(leaf, stream);
    std::ranges::copy(gradient(step, leaf), data<float>(arena));
    std::vector<size_t> ready{0, 1, 1, 1, 2, 2};
    std::shuffle(ready.begin(), ready.end(), random);
    for (const size_t bucket : ready) reducer.gradient_ready(bucket, stream);
  }
  if (reducer.first_part() == reducer.last_part()) reducer.without_parts(stream);
  if (random() % 2) std::this_thread::sleep_for(std::chrono::microseconds(random() % 500));
  reducer.wait(stream);
}

void expect_owned(Communicator& comm, const GradientReducer& reducer, const Row& expected) {
  const auto buckets = three_buckets(comm);
  for (size_t b = 0; b < 3; ++b) {
    const Range own = buckets[b].updates[size_t(comm.rank())];
    const auto* sum = data<float>(reducer.sums(own));
    ASSERT_EQ(reducer.sums(own).size(), own.size());
    ASSERT_TRUE(std::equal(sum, sum + own.size(), expected.begin() + own.begin))
        << "bucket " << b << " on rank " << comm.rank();
    // The slices of the node meet end to end.
    const int64_t mine[] = {int64_t(comm.place().node), own.begin, own.end};
    const auto all = comm.all_gather_bytes({reinterpret_cast<const char*>(mine), sizeof mine});
    int64_t next = buckets[b].begin;
    for (const std::string& bytes : all) {
      int64_t theirs[3];
      std::copy_n(bytes.data(), sizeof theirs, reinterpret_cast<char*>(theirs));
      if (theirs[0] != mine[0]) continue;
      ASSERT_EQ(theirs[1], next) << "slices of bucket " << b << " overlap or leave a gap";
      next = theirs[2];
    }
    ASSERT_EQ(next, buckets[b].end);
  }
}

std::string error_of(const std::function<void()>& body, ErrorCode code) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  return "no error";
}

TEST(GradientReducer, SumsAlongTheTreeOfTheLeavesOnAnyRanksAndNodes) {
  for (const int leaves : cases({3, 1, 8})) {
    std::vector<Row> expected;
    for (int step = 0; step < 3; ++step) expected.push_back(tree_reference(step, {0, leaves}));
    on_every_group([&](Communicator& comm) {
      SCOPED_TRACE(str(leaves, " leaves"));
      Stream stream = Stream::cpu(comm.rank() % 2 + 1);
      HostGradientReducer reducer(comm, three_buckets(comm), kElements, ReduceMode::tree, leaves);
      for (int step = 0; step < 3; ++step) {
        run_step(comm, reducer, step, stream);
        expect_owned(comm, reducer, expected[size_t(step)]);
      }
    });
  }
}

// Nothing but the reducer itself keeps a fast rank from writing the next gradients over what a slow one still reads.
TEST(GradientReducer, StepsMayFollowEachOtherAtOnce) {
  std::vector<Row> expected;
  for (int step = 0; step < 4; ++step) expected.push_back(tree_reference(step, {0, 3}));
  on_every_group([&](Communicator& comm) {
    Stream stream = Stream::cpu();
    HostGradientReducer reducer(comm, three_buckets(comm), kElements, ReduceMode::tree, 3);
    for (int step = 0; step < 4; ++step) {
      run_step(comm, reducer, step, stream);
      if (comm.rank() % 2) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      for (size_t b = 0; b < 3; ++b) {
        const Range own = three_buckets(comm)[b].updates[size_t(comm.rank())];
        const auto* sum = data<float>(reducer.sums(own));
        ASSERT_TRUE(std::equal(sum, sum + own.size(), expected[size_t(step)].begin() + own.begin))
            << "bucket " << b << " of step " << step << " on rank " << comm.rank();
      }
    }
  });
}

TEST(GradientReducer, FastModeGivesEveryRankOneLeafWhateverTheVirtualRanks) {
  on_every_group([](Communicator& comm) {
    Stream stream = Stream::cpu();
    HostGradientReducer reducer(comm, three_buckets(comm), kElements, ReduceMode::fast, 24);
    EXPECT_EQ(reducer.first_part(), comm.rank());
    EXPECT_EQ(reducer.last_part(), comm.rank() + 1);
    run_step(comm, reducer, 0, stream);
    expect_owned(comm, reducer, tree_reference(0, {0, comm.size()}));
  });
}

TEST(GradientReducer, MpiModeSumsByMpiAndRefusesThreads) {
  const auto body = [](Communicator& comm) {
    Stream stream = Stream::cpu();
    HostGradientReducer reducer(comm, three_buckets(comm), kElements, ReduceMode::mpi, 8);
    run_step(comm, reducer, 0, stream);
    const Row expected = tree_reference(0, {0, comm.size()});
    const Range own = three_buckets(comm)[1].updates[size_t(comm.rank())];
    for (int64_t i = own.begin; i < own.end; ++i)
      ASSERT_NEAR(data<float>(reducer.sums(own))[i - own.begin], expected[size_t(i)], 1.0);  // summands reach 1e6
  };
  if (launched_ranks()) return on_every_group(body);
  run_ranks(1, body);
  try {
    run_ranks(2, body);
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::usage);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("mpirun"), HasSubstr("tree")));
  }
}

TEST(GradientReducer, OneRankWithOneLeafHandsItsArenaBack) {
  run_ranks(1, [](Communicator& comm) {
    Stream stream = Stream::cpu();
    HostGradientReducer reducer(comm, owned_buckets(comm, {{.begin = 0, .end = 32, .members = 1, .name = "w"}}), 32,
                                ReduceMode::tree, 1);
    const View arena = reducer.begin_part(0, stream);
    reducer.gradient_ready(0, stream);
    reducer.wait(stream);
    EXPECT_EQ(reducer.sums({0, 32}).data, arena.data);
  });
}

TEST(GradientReducer, GathersWhatSeveralRanksOfANodeOwn) {
  const Row expected = tree_reference(0, {0, 3});
  on_every_group([&](Communicator& comm) {
    Stream stream = Stream::cpu();
    HostGradientReducer reducer(comm, three_buckets(comm), kElements, ReduceMode::tree, 3);
    run_step(comm, reducer, 0, stream);
    reducer.meet();
    for (const Range& elements : {Range{128, 200'000}, Range{150'001, 150'003}, Range{300, 99'999}}) {
      Row memory(size_t(elements.size()));
      const View scratch{memory.data(), DType::f32, DeviceKind::cpu, Shape{elements.size()}};
      const View whole = reducer.gathered(1, elements, scratch, stream);
      const auto* sum = data<float>(whole);
      ASSERT_TRUE(std::equal(sum, sum + whole.size(), expected.begin() + elements.begin)) << elements.begin;
      ASSERT_EQ(whole.size(), elements.size());
    }
    reducer.meet();
  });
}

TEST(GradientReducer, RefusesBucketsWithoutOwners) {
  run_ranks(1, [](Communicator& comm) {
    const std::vector<GradientBucket> nobodys{{.begin = 0, .end = 32, .members = 1, .name = "w"}};
    EXPECT_THAT(error_of([&] { HostGradientReducer(comm, nobodys, 32, ReduceMode::tree, 1); }, ErrorCode::plan),
                AllOf(HasSubstr("'w'"), HasSubstr("expected owners of 32 sums, got owners of 0")));
  });
}

TEST(GradientReducer, MeetingShowsWhatTheOthersWrote) {
  on_every_group([](Communicator& comm) {
    HostGradientReducer reducer(comm, three_buckets(comm), kElements, ReduceMode::tree, 1);
    const auto window = comm.allocate_shared(4);
    for (int round = 1; round < 20; ++round) {
      *static_cast<int*>(window->segment(comm.place().local_rank)) = round;
      reducer.meet();
      for (int i = 0; i < comm.place().local_size; ++i) ASSERT_EQ(*static_cast<int*>(window->segment(i)), round);
      reducer.meet();
    }
  });
}

TEST(GradientReducer, WaitNamesTheBucketAndItsMissingGradients) {
  run_ranks(1, [](Communicator& comm) {
    Stream stream = Stream::cpu();
    HostGradientReducer reducer(comm, three_buckets(comm), kElements, ReduceMode::tree, 1);
    reducer.begin_part(0, stream);
    for (const size_t bucket : {0, 1, 2, 2}) reducer.gradient_ready(bucket, stream);
    EXPECT_THAT(error_of([&] { reducer.wait(stream); }, ErrorCode::collective),
                AllOf(HasSubstr("'hidden'"), HasSubstr("misses 2 of 3")));
    EXPECT_THAT(error_of([&] { reducer.gradient_ready(0, stream); }, ErrorCode::collective), HasSubstr("'bias'"));
  });
}

TEST(GradientReducer, NamesTheRanksThatDoNotCome) {
  const auto body = [](Communicator& comm) {
    Stream stream = Stream::cpu();
    HostGradientReducer reducer(comm, three_buckets(comm), kElements, ReduceMode::tree, 3);
    reducer.begin_part(comm.rank(), stream);
    if (comm.rank() == 1) {
      // Gone astray, until the others have given up.
      EXPECT_THROW(comm.node().wait_for_all("nothing", [](int) { return false; }), Error);
      return;
    }
    for (const size_t bucket : {0, 1, 1, 1, 2, 2}) reducer.gradient_ready(bucket, stream);
    reducer.wait(stream);
  };
  EXPECT_THAT(
      error_of([&] { run_thread_ranks({.ranks = 3, .node_of = {}, .timeout = std::chrono::milliseconds(300)}, body); },
               ErrorCode::collective),
      AllOf(HasSubstr("bucket 'bias'"), HasSubstr("rank 1 ("), HasSubstr("0.3 s")));
}

TEST(GradientReducer, RefusesLeavesOutOfTurnAndBucketsThatOverlap) {
  run_ranks(1, [](Communicator& comm) {
    Stream stream = Stream::cpu();
    HostGradientReducer reducer(comm, three_buckets(comm), kElements, ReduceMode::tree, 4);
    EXPECT_THAT(error_of([&] { reducer.begin_part(1, stream); }, ErrorCode::collective), HasSubstr("expected leaf 0"));
    reducer.begin_part(0, stream);
    EXPECT_THAT(error_of([&] { reducer.begin_part(1, stream); }, ErrorCode::collective), HasSubstr("misses 1 of 1"));
    auto buckets = three_buckets(comm);
    buckets[1].begin = 96;
    EXPECT_THAT(error_of([&] { HostGradientReducer(comm, buckets, kElements, ReduceMode::tree, 1); }, ErrorCode::plan),
                HasSubstr("'hidden'"));
  });
}

}  // namespace
}  // namespace lockstep
