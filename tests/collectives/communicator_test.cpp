// SPDX-License-Identifier: Apache-2.0
// The conformance suite: what every communicator does, on threads and under mpirun.
#include "collectives/communicator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <thread>

#include "tests/support/cases.h"
#include "tests/support/ranks.h"

namespace lockstep {
namespace {

template <class T>
View view(std::vector<T>& values) {
  return {values.data(), dtype_of<T>(), DeviceKind::cpu, Shape{int64_t(values.size())}};
}

// Element i of rank r, different for all and exact in every dtype and sum.
template <class T>
T element(int rank, int64_t i) {
  return T(float((rank + 1) * 3 + int(i % 7) - 5 * (i % 2)));
}

template <class T>
double number(T value) {
  return double(value);
}
double number(bfloat16 value) { return double(float(value)); }

template <class T>
void check_all_reduce(Communicator& comm, int64_t n, ReduceOp op) {
  Stream stream = Stream::cpu();
  std::vector<T> values(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) values[size_t(i)] = element<T>(comm.rank(), i);
  comm.all_reduce(view(values), op, stream).wait(stream);
  for (int64_t i = 0; i < n; ++i) {
    double expected = number(element<T>(0, i));
    for (int rank = 1; rank < comm.size(); ++rank) {
      const double other = number(element<T>(rank, i));
      if (op == ReduceOp::sum) expected += other;
      if (op == ReduceOp::max) expected = std::max(expected, other);
      if (op == ReduceOp::min) expected = std::min(expected, other);
    }
    ASSERT_EQ(number(values[size_t(i)]), expected)
        << to_string(op) << " of " << to_string(dtype_of<T>()) << ", element " << i << " of " << n;
  }
}

TEST(Communicator, AllReduceReducesEveryDtypeOperatorAndSize) {
  on_every_group([](Communicator& comm) {
    for (const int64_t n : cases<int64_t>({0, 1, 7, 64, 1023, 1024, 1025, 70'001}, 4))
      for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max, ReduceOp::min}) {
        check_all_reduce<float>(comm, n, op);
        check_all_reduce<double>(comm, n, op);
        check_all_reduce<bfloat16>(comm, n, op);
        check_all_reduce<int32_t>(comm, n, op);
        check_all_reduce<int64_t>(comm, n, op);
      }
  });
}

TEST(Communicator, AllReduceInSharedMemoryWorksInPlaceAtAnyOffset) {
  on_every_group([](Communicator& comm) {
    Stream stream = Stream::cpu(2);
    const int64_t n = 150'003;
    const auto window = comm.allocate_shared(2 * n * 4);
    auto* own = static_cast<float*>(window->segment(comm.place().local_rank));
    for (const int64_t offset : {int64_t(0), int64_t(5), n}) {
      for (int64_t i = 0; i < n; ++i) own[offset + i] = element<float>(comm.rank(), i);
      const float guard = offset > 0 ? own[offset - 1] : 0;
      comm.all_reduce({own + offset, DType::f32, DeviceKind::cpu, Shape{n}}, ReduceOp::sum, stream).wait(stream);
      for (int64_t i = 0; i < n; ++i) {
        float expected = 0;
        for (int rank = 0; rank < comm.size(); ++rank) expected += element<float>(rank, i);
        ASSERT_EQ(own[offset + i], expected) << "element " << i << " at offset " << offset;
      }
      if (offset > 0) {
        EXPECT_EQ(own[offset - 1], guard);
      }
    }
  });
}

// Small, staged and in-place sums, one after the other, while ranks come late at random: a missing barrier or a buffer
// reused too early shows as a wrong number.
TEST(Communicator, AllReduceStandsRanksThatComeLate) {
  on_every_group([](Communicator& comm) {
    Stream stream = Stream::cpu();
    const auto window = comm.allocate_shared(4096 * 4);
    auto* own = static_cast<int32_t*>(window->segment(comm.place().local_rank));
    std::minstd_rand late(unsigned(comm.rank() + 1));
    for (int round = 0; round < (kUnderSanitizer ? 10 : 30); ++round) {
      const auto sleep = [&] {
        if (late() % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(late() % 300));
      };
      std::vector<int32_t> small(8, comm.rank() + round), large(70'000, comm.rank() - round);
      std::fill_n(own, 4096, comm.rank() * round);
      const int ranks = comm.size(), total = ranks * (ranks - 1) / 2;
      sleep();
      comm.all_reduce(view(small), ReduceOp::sum, stream).wait(stream);
      sleep();
      comm.all_reduce({own, DType::i32, DeviceKind::cpu, Shape{4096}}, ReduceOp::sum, stream).wait(stream);
      comm.all_reduce(view(large), ReduceOp::sum, stream).wait(stream);
      ASSERT_EQ(small, std::vector<int32_t>(8, total + ranks * round));
      ASSERT_EQ(std::vector<int32_t>(own, own + 4096), std::vector<int32_t>(4096, total * round));
      ASSERT_EQ(large, std::vector<int32_t>(70'000, total - ranks * round));
      // The window is written again in the next round: all must have read it.
      comm.barrier();
    }
  });
}

TEST(Communicator, SumsOfFloatsHaveTheSameBitsOnAllRanksAndInEveryRun) {
  on_every_group([](Communicator& comm) {
    Stream stream = Stream::cpu();
    // Few go another way than many.
    for (const size_t count : {1000u, 5000u}) {
      std::string first;
      for (int run = 0; run < 3; ++run) {
        std::mt19937 random(unsigned(comm.rank()));
        std::vector<float> values(count);
        for (float& value : values) value = std::normal_distribution<float>()(random);
        comm.all_reduce(view(values), ReduceOp::sum, stream).wait(stream);
        const std::string bits(reinterpret_cast<char*>(values.data()), values.size() * 4);
        if (run == 0) first = bits;
        ASSERT_EQ(bits == first, true);
      }
      for (const std::string& theirs : comm.all_gather_bytes(first)) ASSERT_EQ(theirs == first, true) << count;
    }
  });
}

TEST(Communicator, MaxAndMinKeepNotANumber) {
  on_every_group([](Communicator& comm) {
    Stream stream = Stream::cpu();
    for (const ReduceOp op : {ReduceOp::max, ReduceOp::min}) {
      std::vector<float> values{comm.rank() == comm.size() - 1 ? NAN : 1.0f, 2.0f};
      comm.all_reduce(view(values), op, stream).wait(stream);
      EXPECT_TRUE(std::isnan(values[0]));
      EXPECT_EQ(values[1], 2.0f);
    }
  });
}

TEST(Communicator, ReduceScatterGivesEachRankItsPartOfTheSum) {
  on_every_group([](Communicator& comm) {
    Stream stream = Stream::cpu();
    for (const int64_t n : {0, 1, 33, 90'001}) {
      std::vector<int64_t> in(size_t(n * comm.size())), out(static_cast<size_t>(n));
      for (size_t i = 0; i < in.size(); ++i) in[i] = comm.rank() * 1'000'000 + int64_t(i);
      comm.reduce_scatter(view(in), view(out), ReduceOp::sum, stream).wait(stream);
      const int64_t ranks = comm.size();
      for (int64_t i = 0; i < n; ++i)
        ASSERT_EQ(out[size_t(i)], ranks * (ranks - 1) / 2 * 1'000'000 + ranks * (comm.rank() * n + i)) << i;
    }
  });
}

TEST(Communicator, AllGatherPutsTheRanksInOrder) {
  on_every_group([](Communicator& comm) {
    Stream stream = Stream::cpu();
    for (const int64_t n : {0, 1, 5, 100'001}) {
      std::vector<int32_t> in(static_cast<size_t>(n)), out(size_t(n * comm.size()));
      std::iota(in.begin(), in.end(), comm.rank() * 1'000'000);
      comm.all_gather(view(in), view(out), stream).wait(stream);
      for (int64_t i = 0; i < n * comm.size(); ++i) ASSERT_EQ(out[size_t(i)], i / n * 1'000'000 + i % n);
    }
  });
}

TEST(Communicator, BroadcastGivesAllRanksTheValuesOfAnyRoot) {
  on_every_group([](Communicator& comm) {
    Stream stream = Stream::cpu();
    for (int root = 0; root < comm.size(); ++root)
      for (const int64_t n : {0, 3, 150'000}) {
        std::vector<float> values(size_t(n), float(comm.rank()));
        comm.broadcast(view(values), root, stream).wait(stream);
        ASSERT_EQ(values, std::vector<float>(size_t(n), float(root)));
      }
  });
}

TEST(Communicator, GathersBytesOfDifferentLengths) {
  on_every_group([](Communicator& comm) {
    const std::vector<std::string> all =
        comm.all_gather_bytes(std::string(size_t(comm.rank() * 3), char('a' + comm.rank())));
    ASSERT_EQ(int(all.size()), comm.size());
    for (int rank = 0; rank < comm.size(); ++rank)
      EXPECT_EQ(all[size_t(rank)], std::string(size_t(rank * 3), char('a' + rank)));
  });
}

TEST(Communicator, ExchangesMessagesAroundARing) {
  on_every_group([](Communicator& comm) {
    if (comm.size() == 1) return;
    const int ranks = comm.size(), next = (comm.rank() + 1) % ranks, previous = (comm.rank() + ranks - 1) % ranks;
    for (const size_t n : {0, 1, 100'000}) {
      const std::vector<int32_t> out(n, comm.rank());
      std::vector<int32_t> in(n, -1);
      comm.exchange(std::vector{Outgoing{next, out.data(), int64_t(n * 4)}},
                    std::vector{Incoming{previous, in.data(), int64_t(n * 4)}});
      ASSERT_EQ(in, std::vector<int32_t>(n, previous));
    }
  });
}

TEST(Communicator, SplitsByColorInOrderOfKeys) {
  on_every_group([](Communicator& comm) {
    Stream stream = Stream::cpu();
    const auto part = comm.split(comm.rank() % 2 - 7, -comm.rank());
    std::vector<int32_t> mine{comm.rank()}, all(size_t(part->size()));
    part->all_gather(view(mine), view(all), stream).wait(stream);
    std::vector<int32_t> expected;
    for (int rank = comm.size() - 1; rank >= 0; --rank)
      if (rank % 2 == comm.rank() % 2) expected.push_back(rank);
    EXPECT_EQ(all, expected);
    EXPECT_EQ(all[size_t(part->rank())], comm.rank());
  });
}

TEST(Communicator, SharedWindowsAreZeroAlignedAndSeenByTheNode) {
  on_every_group([](Communicator& comm) {
    for (int round = 0; round < 5; ++round) {
      const int64_t bytes = comm.place().local_rank == 1 ? 0 : 1000 + comm.rank();
      const auto window = comm.allocate_shared(bytes);
      auto* own = static_cast<char*>(window->segment(comm.place().local_rank));
      EXPECT_EQ(reinterpret_cast<uintptr_t>(own) % 128, 0u);
      EXPECT_EQ(std::count(own, own + bytes, 0), bytes);
      std::fill_n(own, bytes, char(comm.place().local_rank + 1));
      comm.barrier();
      for (int i = 0; i < comm.place().local_size; ++i) {
        const auto* theirs = static_cast<const char*>(window->segment(i));
        EXPECT_EQ(std::count(theirs, theirs + window->bytes(i), i + 1), window->bytes(i));
      }
      comm.barrier();
    }
  });
}

TEST(Communicator, KnowsItsPlaceAmongTheRanksOfItsNode) {
  on_every_group([](Communicator& comm) {
    const Place& place = comm.place();
    int before = 0, beside = 0;
    for (int rank = 0; rank < comm.size(); ++rank) {
      if (comm.node_of()[size_t(rank)] != place.node) continue;
      ++beside;
      before += rank < comm.rank();
    }
    EXPECT_EQ(place.local_rank, before);
    EXPECT_EQ(place.local_size, beside);
    EXPECT_EQ(comm.node_of()[0], 0);
    EXPECT_FALSE(place.host.empty());
  });
}

TEST(Communicator, RecordsTheCollectivesItIsAskedTo) {
  on_every_group([](Communicator& comm) {
    Stream stream = Stream::cpu();
    std::vector<float> values(6);
    comm.log().keep_records(true);
    comm.all_reduce(view(values), ReduceOp::sum, stream).wait(stream);
    comm.broadcast(view(values), 0, stream).wait(stream);
    comm.log().keep_records(false);
    comm.broadcast(view(values), 0, stream).wait(stream);
    const auto trace = comm.log().records();
    if (comm.size() == 1) {
      EXPECT_TRUE(trace.empty());
      return;
    }
    const size_t n = trace.size();
    ASSERT_GE(n, 2u);
    EXPECT_EQ(trace[n - 2], (CollectiveRecord{CollectiveKind::all_reduce, DType::f32, "ranks", 24}));
    EXPECT_EQ(trace[n - 1], (CollectiveRecord{CollectiveKind::broadcast, DType::f32, "ranks", 24}));
  });
}

}  // namespace
}  // namespace lockstep
