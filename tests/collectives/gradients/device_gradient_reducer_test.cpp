// SPDX-License-Identifier: Apache-2.0
// Sums of gradients between ranks with a GPU each, in f32 and in bf16, by every transport: those of the definition.
#include "collectives/gradients/device_gradient_reducer.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <limits>

#include "collectives/gradients/finite.h"
#include "kernels/device/graph.h"
#include "tests/support/cases.h"
#include "tests/support/device_ranks.h"
#include "tests/support/owned_buckets.h"
#include "tests/support/rounded_sums.h"

namespace lockstep {
namespace {

constexpr int64_t kUnit = 32 * 12;  // elements: parts of 1 to 4 ranks
constexpr int64_t kElements = 8 * kUnit, kWidest = 5 * kUnit;

std::vector<GradientBucket> three_buckets(const Communicator& ranks) {
  return owned_buckets(ranks,
                       {{.begin = 0, .end = kUnit, .members = 1, .name = "bias"},
                        {.begin = kUnit, .end = kUnit + kWidest, .members = 2, .name = "hidden"},
                        {.begin = kUnit + kWidest, .end = kElements, .members = 1, .name = "output"}},
                       Copies::per_rank);
}

// Gradients of the leaves of this rank, and its reducer.
class OneRank {
 public:
  OneRank(DeviceRank& on, ReduceMode mode, int leaves, DType dtype, int64_t ranks_of_node = 0)
      : on_(on),
        reducer_(on.comm, three_buckets(on.comm.ranks()), kElements, mode, leaves, on.pool, on.compute, dtype,
                 ranks_of_node) {
    for (int leaf = reducer_.first_part(); leaf < reducer_.last_part(); ++leaf) leaves_.emplace_back(on, kElements);
  }

  void take(int step, float added = 0) {
    on_.compute.synchronize();
    for (int leaf = reducer_.first_part(); leaf < reducer_.last_part(); ++leaf) {
      Row row = leaf_gradient(step, leaf, size_t(kElements));
      if (leaf == 0) row[77] += added;
      leaves_[size_t(leaf - reducer_.first_part())].set(row);
    }
  }
  // One step on the stream, as the passes of a model make it.
  void queue() {
    for (int leaf = reducer_.first_part(); leaf < reducer_.last_part(); ++leaf) {
      const View arena = reducer_.begin_part(leaf, on_.compute);
      copy(on_.compute, arena, leaves_[size_t(leaf - reducer_.first_part())].view());
      for (const size_t bucket : {1, 0, 1, 2}) reducer_.gradient_ready(bucket, on_.compute);
    }
    if (leaves_.empty()) reducer_.without_parts(on_.compute);
    reducer_.wait(on_.compute);
  }
  Row sums() {
    DeviceVector<float> result(on_, kElements);
    copy(on_.compute, result.view(), reducer_.sums({0, kElements}));
    on_.comm.synchronize(on_.compute);
    return result.get();
  }

 private:
  DeviceRank& on_;
  std::vector<DeviceVector<float>> leaves_;
  DeviceGradientReducer reducer_;
};

TEST(DeviceGradientReducer, SumsAlongTheTreeOfTheLeavesInEitherDType) {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int leaves : cases({3, 1, 8})) {
      const Row expected[] = {tree_of_step(0, leaves, size_t(kElements), dtype),
                              tree_of_step(1, leaves, size_t(kElements), dtype)};
      on_every_device_group([&](DeviceRank& on) {
        SCOPED_TRACE(str(leaves, " leaves in ", to_string(dtype)));
        OneRank rank(on, ReduceMode::tree, leaves, dtype);
        for (const int step : {0, 1, 0}) {
          rank.take(step);
          rank.queue();
          EXPECT_TRUE(rank.sums() == expected[step]) << "step " << step << " on rank " << on.rank();
        }
      });
    }
}

// Passes everything on, and counts the bytes that this rank sends to ranks on other nodes.
class CountsBetweenNodes final : public DeviceCommunicator {
 public:
  CountsBetweenNodes(DeviceRank& on, int ranks_of_node)
      : DeviceCommunicator(on.comm.ranks(), on.compute.device()), inner_(on.comm), ranks_of_node_(ranks_of_node) {}
  std::string_view transport() const override { return inner_.transport(); }
  bool recordable() const override { return inner_.recordable(); }
  void abandon() noexcept override { inner_.abandon(); }
  int64_t bytes = 0;

 private:
  void do_wait(const std::function<bool()>& done, const std::string& what) override {
    wait_until(done, [&] { return what; });
  }
  Work do_all_reduce(View inout, ReduceOp op, Stream& after) override { return inner_.all_reduce(inout, op, after); }
  Work do_reduce_scatter(ConstView in, View out, ReduceOp op, Stream& after) override {
    return inner_.reduce_scatter(in, out, op, after);
  }
  Work do_all_gather(ConstView in, View out, Stream& after) override { return inner_.all_gather(in, out, after); }
  Work do_broadcast(View inout, int root, Stream& after) override { return inner_.broadcast(inout, root, after); }
  Work do_exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives, Stream& after) override {
    for (const Outgoing& send : sends)
      if (send.rank / ranks_of_node_ != rank() / ranks_of_node_) bytes += send.bytes;
    return inner_.exchange(sends, receives, after);
  }

  DeviceCommunicator& inner_;
  int ranks_of_node_;
};

// body(rank) on so many thread ranks with a GPU each, by each transport.
void on_gpus(int ranks, const std::function<void(DeviceRank&)>& body) {
  for (const DeviceTransport transport : {DeviceTransport::nccl, DeviceTransport::staged})
    if (can_run(transport, ranks)) run_ranks(ranks, [&](Communicator& comm) { with_device(comm, transport, body); });
}

TEST(DeviceGradientReducer, AddsUpWithinNodesFirstInTheSameBits) {
  if (find_cuda_devices().count() == 0) GTEST_SKIP() << "needs a GPU";
  for (const auto& [ranks, of_node] : cases({std::pair{4, 2}, std::pair{6, 3}}, 1))
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const int leaves : cases({6, 3, 70}, 2)) {
        const Row expected = tree_of_step(0, leaves, size_t(kElements), dtype);
        on_gpus(ranks, [&, nodes = of_node](DeviceRank& on) {
          SCOPED_TRACE(str(leaves, " leaves in ", to_string(dtype), " on ", on.size(), " ranks, ", nodes, " a node"));
          const int64_t before = on.pool.live(Purpose::gradients).now;
          OneRank rank(on, ReduceMode::tree, leaves, dtype, nodes);
          EXPECT_EQ(on.pool.live(Purpose::gradients).now - before,
                    device_gradient_bytes(ReduceMode::tree, {on.size(), nodes}, leaves, kElements, kWidest, dtype));
          for (int step = 0; step < 2; ++step) {
            rank.take(0);
            rank.queue();
            EXPECT_TRUE(rank.sums() == expected) << "rank " << on.rank();
          }
        });
      }
}

TEST(DeviceGradientReducer, SendsOneSumOfEachNodeAcross) {
  if (find_cuda_devices().count() == 0) GTEST_SKIP() << "needs a GPU";
  on_gpus(4, [](DeviceRank& on) {
    const auto bytes_across = [&](int64_t ranks_of_node) {
      CountsBetweenNodes counting(on, 2);
      DeviceRank counted{counting, on.compute, on.pool};
      OneRank rank(counted, ReduceMode::tree, 8, DType::f32, ranks_of_node);
      rank.take(0);
      rank.queue();
      (void)rank.sums();
      return counting.bytes;
    };
    constexpr int64_t kSlices = kElements / 4 * int64_t(sizeof(float));  // of all buckets, of one rank
    // To each rank of the other node what this rank has of its slice: the sums of its first leaf and of its last.
    EXPECT_EQ(bytes_across(0), 2 * 2 * kSlices);
    EXPECT_EQ(bytes_across(2), kSlices);
  });
}

TEST(DeviceGradientReducer, IsRecordedInEitherDType) {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const ReduceMode mode : {ReduceMode::tree, ReduceMode::fast})
      on_every_device_group([&](DeviceRank& on) {
        if (on.size() > 1 && !on.comm.recordable()) return;
        OneRank rank(on, mode, 8, dtype);
        rank.take(0);
        rank.queue();
        const Row first = rank.sums();
        Graph step = Graph::record(on.compute, [&] { rank.queue(); });
        rank.take(1);
        step.launch(on.compute);
        const Row second = rank.sums();
        EXPECT_FALSE(second == first);
        rank.take(0);
        step.launch(on.compute);
        EXPECT_TRUE(rank.sums() == first) << to_string(dtype) << " on rank " << on.rank();
      });
}

TEST(DeviceGradientReducer, InFastModeInBf16HasTheSameBf16OnAllRanks) {
  on_every_device_group([](DeviceRank& on) {
    OneRank rank(on, ReduceMode::fast, 24, DType::bf16);
    rank.take(0);
    rank.queue();
    const Row sums = rank.sums(), exact = tree_of_step(0, on.size(), size_t(kElements), DType::f32);
    std::vector<Row> leaves;
    for (int leaf = 0; leaf < on.size(); ++leaf) leaves.push_back(leaf_gradient(0, leaf, size_t(kElements)));
    for (size_t i = 0; i < sums.size(); ++i) {
      float magnitude = 0;
      for (const Row& leaf : leaves) magnitude += std::abs(leaf[i]);
      ASSERT_NEAR(sums[i], exact[i], magnitude / 64) << "element " << i;
      ASSERT_EQ(sums[i], nearest_bf16(sums[i])) << "element " << i;
    }
    const auto all =
        on.comm.ranks().all_gather_bytes({reinterpret_cast<const char*>(sums.data()), sums.size() * sizeof(float)});
    for (const std::string& bytes : all) EXPECT_TRUE(bytes == all[0]);
  });
}

TEST(DeviceGradientReducer, HoldsTheBytesThatItForecasts) {
  on_every_device_group([](DeviceRank& on) {
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const ReduceMode mode : {ReduceMode::tree, ReduceMode::fast})
        for (const int leaves : {1, 3, 8}) {
          const int parts = mode == ReduceMode::tree ? leaves : on.size();
          const int64_t before = on.pool.live(Purpose::gradients).now;
          const DeviceGradientReducer reducer(on.comm, three_buckets(on.comm.ranks()), kElements, mode, leaves, on.pool,
                                              on.compute, dtype);
          EXPECT_EQ(on.pool.live(Purpose::gradients).now - before,
                    device_gradient_bytes(mode, {on.size()}, parts, kElements, kWidest, dtype))
              << leaves << " leaves in " << to_string(dtype) << " on " << on.size() << " ranks";
        }
  });
}

TEST(DeviceGradientReducer, LeavesInfinityWhereBf16CannotHoldALeaf) {
  on_every_device_group([](DeviceRank& on) {
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const int leaves : {1, 8}) {
        OneRank rank(on, ReduceMode::tree, leaves, dtype);
        rank.take(0, std::numeric_limits<float>::max());
        rank.queue();
        const Row sums = rank.sums();
        EXPECT_EQ(all_finite(sums.data(), kElements), dtype == DType::f32) << leaves << " leaves on rank " << on.rank();
      }
  });
}

TEST(DeviceGradientReducer, RecordsTheBytesThatTravel) {
  on_every_device_group([](DeviceRank& on) {
    Communicator& ranks = on.comm.ranks();
    ranks.log().keep_records(true);
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const size_t before = ranks.log().records().size();
      OneRank rank(on, ReduceMode::tree, 8, dtype);
      rank.take(0);
      rank.queue();
      (void)rank.sums();
      ASSERT_EQ(ranks.log().records().size() - before, on.size() > 1 ? 3u : 0u);
      if (on.size() == 1) continue;
      EXPECT_EQ(ranks.log().records()[before + 1].dtype, dtype);
      EXPECT_EQ(ranks.log().records()[before + 1].bytes, kWidest * size_of(dtype));
    }
    ranks.log().keep_records(false);
  });
}

}  // namespace
}  // namespace lockstep
