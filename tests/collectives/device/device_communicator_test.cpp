// SPDX-License-Identifier: Apache-2.0
// The conformance suite of device collectives: NCCL and staging, on threads and under mpirun.
#include "collectives/device/device_communicator.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "kernels/device/graph.h"
#include "tests/support/device_ranks.h"
#include "tests/support/files.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

// Element i of rank r, different for all and exact in every dtype and sum.
template <class T>
T element(int rank, int64_t i) {
  return T(float((rank + 1) * 3 + int(i % 7) - 5 * (i % 2)));
}

template <class T>
std::vector<T> elements(int rank, int64_t n) {
  std::vector<T> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(element<T>(rank, i));
  return values;
}

template <class T>
double number(T value) {
  return double(value);
}
double number(bfloat16 value) { return double(float(value)); }

template <class T>
double reduced(int ranks, int64_t i, ReduceOp op) {
  double result = number(element<T>(0, i));
  for (int rank = 1; rank < ranks; ++rank) {
    const double other = number(element<T>(rank, i));
    if (op == ReduceOp::sum) result += other;
    if (op == ReduceOp::max) result = std::max(result, other);
    if (op == ReduceOp::min) result = std::min(result, other);
  }
  return result;
}

template <class T>
void check_reductions(DeviceRank& on, int64_t n, ReduceOp op) {
  SCOPED_TRACE(str(to_string(op), " of ", n, " ", to_string(dtype_of<T>())));
  DeviceVector<T> whole(on, elements<T>(on.rank(), n * on.size())), part(on, size_t(n), T(-1));
  on.comm.reduce_scatter(whole.view(), part.view(), op, on.compute).wait(on.compute);
  on.comm.all_reduce(whole.view(), op, on.compute).wait(on.compute);
  const std::vector<T> sums = whole.get(), mine = part.get();
  for (int64_t i = 0; i < n * on.size(); ++i)
    ASSERT_EQ(number(sums[size_t(i)]), reduced<T>(on.size(), i, op)) << "element " << i;
  for (int64_t i = 0; i < n; ++i)
    ASSERT_EQ(number(mine[size_t(i)]), reduced<T>(on.size(), on.rank() * n + i, op)) << "element " << i;
}

TEST(DeviceCommunicator, ReducesEveryDtypeOperatorAndSize) {
  on_every_device_group([](DeviceRank& on) {
    // Longer than the pieces that transports cut them into.
    check_reductions<float>(on, 40'001, ReduceOp::sum);
    check_reductions<bfloat16>(on, 40'001, ReduceOp::max);
    for (const int64_t n : {0, 1, 7, 1023})
      for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max, ReduceOp::min}) {
        check_reductions<float>(on, n, op);
        check_reductions<double>(on, n, op);
        check_reductions<bfloat16>(on, n, op);
        check_reductions<int32_t>(on, n, op);
        check_reductions<int64_t>(on, n, op);
      }
  });
}

TEST(DeviceCommunicator, ReduceScatterWorksInPlace) {
  on_every_device_group([](DeviceRank& on) {
    for (const int64_t n : {1, 40'001}) {
      DeviceVector<float> whole(on, elements<float>(on.rank(), n * on.size()));
      const View own = slice(whole.view(), on.rank() * n, (on.rank() + 1) * n);
      on.comm.reduce_scatter(whole.view(), own, ReduceOp::sum, on.compute).wait(on.compute);
      const std::vector<float> values = whole.get();
      for (int64_t i = on.rank() * n; i < (on.rank() + 1) * n; ++i)
        ASSERT_EQ(number(values[size_t(i)]), reduced<float>(on.size(), i, ReduceOp::sum)) << "element " << i;
    }
  });
}

TEST(DeviceCommunicator, SumsOfFloatsHaveTheSameBitsOnAllRanks) {
  on_every_device_group([](DeviceRank& on) {
    std::mt19937 random(unsigned(on.rank()));
    std::vector<float> values(5000);
    for (float& value : values) value = std::normal_distribution<float>()(random);
    DeviceVector<float> sums(on, values);
    on.comm.all_reduce(sums.view(), ReduceOp::sum, on.compute).wait(on.compute);
    const std::vector<float> mine = sums.get();
    const std::string bits(reinterpret_cast<const char*>(mine.data()), mine.size() * 4);
    for (const std::string& theirs : on.comm.ranks().all_gather_bytes(bits)) ASSERT_EQ(theirs == bits, true);
  });
}

template <class T>
void check_all_gather(DeviceRank& on, int64_t n, bool in_place) {
  SCOPED_TRACE(str(n, " ", to_string(dtype_of<T>()), in_place ? " in place" : ""));
  DeviceVector<T> mine(on, elements<T>(on.rank(), n)), all(on, size_t(n * on.size()), T(-1));
  const View own = slice(all.view(), on.rank() * n, (on.rank() + 1) * n);
  if (in_place) copy(on.compute, own, mine.view());
  on.comm.all_gather(in_place ? own : mine.view(), all.view(), on.compute).wait(on.compute);
  const std::vector<T> values = all.get();
  for (int64_t i = 0; i < n * on.size(); ++i)
    ASSERT_EQ(number(values[size_t(i)]), number(element<T>(int(i / n), i % n))) << "element " << i;
}

TEST(DeviceCommunicator, AllGatherPutsTheRanksInOrderAlsoInPlace) {
  on_every_device_group([](DeviceRank& on) {
    for (const bool in_place : {false, true})
      for (const int64_t n : {0, 1, 5, 50'001}) {
        check_all_gather<float>(on, n, in_place);
        check_all_gather<bfloat16>(on, n, in_place);
        check_all_gather<int64_t>(on, n, in_place);
      }
  });
}

TEST(DeviceCommunicator, BroadcastGivesAllRanksTheValuesOfAnyRoot) {
  on_every_device_group([](DeviceRank& on) {
    for (int root = 0; root < on.size(); ++root)
      for (const size_t n : {0, 3, 70'001}) {
        DeviceVector<float> values(on, n, float(on.rank()));
        on.comm.broadcast(values.view(), root, on.compute).wait(on.compute);
        ASSERT_EQ(values.get(), std::vector<float>(n, float(root)));
      }
  });
}

// Every rank to every other one, two messages each of which one may be empty, lengths of any number of bytes.
TEST(DeviceCommunicator, ExchangesMessagesOfAnyLengthBetweenAllPairsInOrder) {
  on_every_device_group([](DeviceRank& on) {
    const auto length = [](int from, int to) { return int64_t(from * 7001 + to * 13) / 2 * (to != 3); };
    std::vector<DeviceVector<int32_t>> memory;
    std::vector<Outgoing> sends;
    std::vector<Incoming> receives;
    memory.reserve(size_t(4 * on.size()));
    for (int peer = 0; peer < on.size(); ++peer) {
      if (peer == on.rank()) continue;
      const int64_t out = length(on.rank(), peer), in = length(peer, on.rank());
      sends.push_back({peer, memory.emplace_back(on, size_t(out), on.rank() * 100 + peer).data(), out * 4});
      receives.push_back({peer, memory.emplace_back(on, size_t(in), -1).data(), in * 4});
      sends.push_back({peer, memory.emplace_back(on, 1, on.rank() - 50).data(), 3});
      receives.push_back({peer, memory.emplace_back(on, 1, 0).data(), 3});
    }
    // Only the order within a pair counts.
    std::ranges::stable_partition(sends, [](const Outgoing& send) { return send.bytes != 3; });
    on.comm.exchange(sends, receives, on.compute).wait(on.compute);
    for (size_t i = 0, peer = 0; i < memory.size(); i += 4, ++peer) {
      const int from = int(peer) + (int(peer) >= on.rank());
      ASSERT_EQ(memory[i + 1].get(), std::vector<int32_t>(size_t(length(from, on.rank())), from * 100 + on.rank()));
      ASSERT_EQ(memory[i + 3].get()[0], (from - 50) & 0xffffff) << "3 bytes of 4";
    }
  });
}

TEST(DeviceCommunicator, ExchangesOverOneEdgeLeaveOtherRanksAlone) {
  on_every_device_group([](DeviceRank& on) {
    if (on.size() < 2) return;
    DeviceVector<int32_t> values(on, 3, on.rank());
    const int last = on.size() - 1;
    std::vector<Outgoing> sends;
    std::vector<Incoming> receives;
    if (on.rank() == last) sends.push_back({0, values.data(), 12});
    if (on.rank() == 0) receives.push_back({last, values.data(), 12});
    on.comm.exchange(sends, receives, on.compute).wait(on.compute);
    on.comm.all_reduce(values.view(), ReduceOp::max, on.compute).wait(on.compute);
    EXPECT_EQ(values.get(), std::vector<int32_t>(3, last));
  });
}

// Buckets in flight on the communicator's stream while the compute stream goes on, round after round, with nothing but
// the order that collectives and waits give.
TEST(DeviceCommunicator, ComesBehindTheStreamItFollowsAndInFrontOfTheOneThatWaits) {
  on_every_device_group([](DeviceRank& on) {
    constexpr size_t kBuckets = 5, kElements = 3001;
    Stream other = Stream::cuda(on.compute.device().index);
    DeviceVector<int32_t> gradients(on, kElements, on.rank() + 1), sums(on, kElements);
    std::vector<DeviceVector<int32_t>> buckets;
    for (size_t b = 0; b < kBuckets; ++b) buckets.emplace_back(on, kElements, 0);
    on.compute.synchronize();
    const int total = on.size() * (on.size() + 1) / 2;
    for (int round = 0; round < 3; ++round) {
      std::vector<Work> works;
      for (DeviceVector<int32_t>& bucket : buckets) {
        copy(on.compute, bucket.view(), gradients.view());
        works.push_back(on.comm.all_reduce(bucket.view(), ReduceOp::sum, on.compute));
      }
      // Whoever waits may be another stream than the one that was followed.
      for (size_t b = 0; b < kBuckets; ++b) works[b].wait(b % 2 ? other : on.compute);
      copy(other, sums.view(), buckets[1].view());
      on.comm.all_reduce(sums.view(), ReduceOp::sum, other).wait(on.compute);
      ASSERT_EQ(sums.get(), std::vector<int32_t>(kElements, total * on.size()));
      for (DeviceVector<int32_t>& bucket : buckets) ASSERT_EQ(bucket.get(), std::vector<int32_t>(kElements, total));
    }
  });
}

TEST(DeviceCommunicator, SynchronizeReturnsWhenTheStreamHasDoneEverything) {
  on_every_device_group([](DeviceRank& on) {
    DeviceVector<int32_t> values(on, 20'000, 1);
    PinnedBuffer seen(on.compute.device(), 20'000 * 4);
    on.comm.all_reduce(values.view(), ReduceOp::sum, on.compute).wait(on.compute);
    copy(on.compute, seen.data(), values.data(), seen.bytes());
    on.comm.synchronize(on.compute);
    const auto* first = static_cast<const int32_t*>(seen.data());
    EXPECT_EQ(std::accumulate(first, first + 20'000, 0), 20'000 * on.size());
  });
}

TEST(DeviceCommunicator, IsRecordedIntoGraphsWhereItSaysSo) {
  on_every_device_group([](DeviceRank& on) {
    EXPECT_EQ(on.comm.recordable(), on.comm.transport() == "nccl");
    if (!on.comm.recordable()) return;
    DeviceVector<int32_t> values(on, 1000, 1), copied(on, 1000);
    on.comm.all_reduce(values.view(), ReduceOp::max, on.compute).wait(on.compute);
    Graph graph = Graph::record(on.compute, [&] {
      Work work = on.comm.all_reduce(values.view(), ReduceOp::sum, on.compute);
      work.wait(on.compute);
      copy(on.compute, copied.view(), values.view());
    });
    int32_t expected = 1;
    for (int launch = 0; launch < 3; ++launch) {
      graph.launch(on.compute);
      expected *= on.size();
      ASSERT_EQ(copied.get(), std::vector<int32_t>(1000, expected)) << "launch " << launch;
    }
  });
}

TEST(DeviceCommunicator, RefusesOperandsThatDoNotFit) {
  on_every_device_group([](DeviceRank& on) {
    const int n = on.size();
    DeviceVector<float> five(on, 5), parts(on, size_t(5 * n));
    DeviceVector<int32_t> integers(on, 5);
    std::vector<float> of_host(5);
    const View host{of_host.data(), DType::f32, DeviceKind::cpu, Shape{5}};
    Stream cpu = Stream::cpu();
    const auto refused = [](auto&& call) { return error_of([&] { call().wait(*static_cast<Stream*>(nullptr)); }); };
    EXPECT_THAT(refused([&] { return on.comm.all_reduce(host, ReduceOp::sum, on.compute); }),
                HasSubstr("collective: all_reduce: expected memory of cuda:"));
    EXPECT_THAT(refused([&] { return on.comm.all_reduce(five.view(), ReduceOp::sum, cpu); }),
                HasSubstr("got one of cpu"));
    const View nothing{nullptr, DType::f32, DeviceKind::cuda, Shape{5}};
    EXPECT_THAT(refused([&] { return on.comm.broadcast(nothing, 0, on.compute); }), HasSubstr("has no memory"));
    EXPECT_THAT(refused([&] { return on.comm.broadcast(five.view(), n, on.compute); }),
                HasSubstr(str("root ", n, " is not a rank; expected 0 to ", n - 1)));
    const View six{five.data(), DType::f32, DeviceKind::cuda, Shape{6}};
    EXPECT_THAT(refused([&] { return on.comm.all_gather(six, parts.view(), on.compute); }),
                HasSubstr(str(5 * n, " elements of all ranks are not ", n, " x 6")));
    EXPECT_THAT(refused([&] { return on.comm.reduce_scatter(parts.view(), six, ReduceOp::sum, on.compute); }),
                HasSubstr("pad the input"));
    EXPECT_THAT(
        refused([&] { return on.comm.reduce_scatter(parts.view(), integers.view(), ReduceOp::sum, on.compute); }),
        HasSubstr("expected one dtype, got f32 for all ranks and i32 for one"));
    EXPECT_THAT(refused([&] {
                  return on.comm.exchange(std::vector{Outgoing{on.rank(), five.data(), 4}}, {}, on.compute);
                }),
                HasSubstr(str("rank ", on.rank(), " of ", n, " has no peer ", on.rank())));
    if (n == 1) return;
    const int peer = (on.rank() + 1) % n;
    EXPECT_THAT(refused([&] {
                  return on.comm.exchange({}, std::vector{Incoming{peer, nullptr, 4}}, on.compute);
                }),
                HasSubstr("a message of 4 bytes"));
  });
}

}  // namespace
}  // namespace lockstep
