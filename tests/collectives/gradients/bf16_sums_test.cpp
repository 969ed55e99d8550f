// SPDX-License-Identifier: Apache-2.0
// Sums in bf16 of ranks that share the memory of their node: every leaf and every sum is rounded, whoever adds it, and
// half the bytes go between nodes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "collectives/gradients/bucket_sum.h"
#include "collectives/gradients/host_gradient_reducer.h"
#include "tests/support/cases.h"
#include "tests/support/owned_buckets.h"
#include "tests/support/ranks.h"
#include "tests/support/rounded_sums.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Row sum_of(const TreeSum& sum, const std::vector<Row>& inputs, int threads = 1) {
  std::vector<const float*> pointers;
  for (const Row& input : inputs) pointers.push_back(input.data());
  Row out(inputs[0].size());
  sum.run(out.data(), pointers, int64_t(out.size()), threads);
  return out;
}

TEST(Bf16, IsTheNearestNumberOfEightDigitsAndTheEvenOneOfTwo) {
  for (const float x : {0.0f, 1.0f, 1.00390625f, 1.01171875f, -1.00390625f, 3.14159265f, 1e30f, -1e-30f})
    EXPECT_EQ(float(bfloat16(x)), nearest_bf16(x)) << x;
  for (const float x : leaf_gradient(1, 2, 100'000)) ASSERT_EQ(float(bfloat16(x)), nearest_bf16(x)) << x;
}

TEST(TreeSumInBf16, RoundsEveryLeafAndEverySumWhateverRanksHold) {
  for (int leaves = 1; leaves <= 24; ++leaves) {
    std::vector<Row> values;
    for (int leaf = 0; leaf < leaves; ++leaf) values.push_back(leaf_gradient(leaves, leaf, 300));
    const Row expected = tree_of(values, DType::bf16);
    for (int ranks = 1; ranks <= 8; ++ranks) {
      std::vector<LeafRange> subtrees;
      std::vector<Row> inputs;
      for (int rank = 0; rank < ranks; ++rank) {
        const LeafStack stack(leaves, leaves_of(rank, ranks, leaves), DType::bf16);
        for (const LeafRange& held : stack.held()) {
          subtrees.push_back(held);
          const auto own = std::span(values).subspan(size_t(held.begin), size_t(held.size()));
          inputs.push_back(held.size() == 1 ? own[0] : tree_of(own, DType::bf16));
        }
      }
      ASSERT_EQ(sum_of(TreeSum({0, leaves}, subtrees, DType::bf16), inputs), expected)
          << leaves << " leaves on " << ranks << " ranks";
    }
  }
}

TEST(TreeSumInBf16, HasTheSameBitsOnAnyNumberOfThreads) {
  std::vector<Row> values;
  std::vector<LeafRange> leaves;
  for (int leaf = 0; leaf < 5; ++leaf)
    values.push_back(leaf_gradient(0, leaf, 150'001)), leaves.push_back({leaf, leaf + 1});
  const Row expected = tree_of(values, DType::bf16);
  for (const int threads : {1, 2, 3})
    EXPECT_TRUE(sum_of(TreeSum({0, 5}, leaves, DType::bf16), values, threads) == expected) << threads;
}

TEST(TreeSumInBf16, RoundsASingleLeafInPlaceAndLooksAtWhatItBecomes) {
  const LeafRange alone{0, 1};
  const TreeSum sum({0, 1}, {&alone, 1}, DType::bf16), whole({0, 1}, {&alone, 1});
  Row row = leaf_gradient(0, 0, 3000);
  const Row expected = tree_of({&row, 1}, DType::bf16);
  const float* input = row.data();
  EXPECT_TRUE(sum.run_and_look(row.data(), {&input, 1}, 3000, 1));
  EXPECT_EQ(row, expected);
  row[2999] = std::numeric_limits<float>::max();  // nearer to infinity than to any bf16
  EXPECT_TRUE(whole.run_and_look(row.data(), {&input, 1}, 3000, 1));
  EXPECT_FALSE(sum.run_and_look(row.data(), {&input, 1}, 3000, 1));
  EXPECT_THROW(TreeSum({0, 1}, {&alone, 1}, DType::f64), Error);
}

// Other ranks, and the bytes that this one sends them in messages.
class CountedRanks final : public Communicator {
 public:
  explicit CountedRanks(Communicator& ranks)
      : Communicator(ranks.rank(), {{ranks.node_of().begin(), ranks.node_of().end()},
                                    std::vector<std::string>(size_t(ranks.size()), "host")}),
        ranks_(ranks) {}
  int64_t sent() const { return sent_; }
  std::string_view transport() const override { return ranks_.transport(); }
  NodeGroup& node() override { return ranks_.node(); }
  bool claim_error_report() noexcept override { return ranks_.claim_error_report(); }
  void abort(int exit_code) noexcept override { ranks_.abort(exit_code); }

 private:
  Work do_all_reduce(View inout, ReduceOp op, Stream& s) override { return ranks_.all_reduce(inout, op, s); }
  Work do_reduce_scatter(ConstView in, View out, ReduceOp op, Stream& s) override {
    return ranks_.reduce_scatter(in, out, op, s);
  }
  Work do_all_gather(ConstView in, View out, Stream& s) override { return ranks_.all_gather(in, out, s); }
  Work do_broadcast(View inout, int root, Stream& s) override { return ranks_.broadcast(inout, root, s); }
  void do_barrier() override { ranks_.barrier(); }
  std::vector<std::string> do_all_gather_bytes(std::string_view mine) override { return ranks_.all_gather_bytes(mine); }
  void do_exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives) override {
    for (const Outgoing& send : sends) sent_ += send.bytes;
    ranks_.exchange(sends, receives);
  }
  void do_vendor_all_reduce(View inout, ReduceOp op) override { ranks_.vendor_all_reduce(inout, op); }
  std::unique_ptr<Communicator> do_split(int color, int key) override { return ranks_.split(color, key); }
  std::unique_ptr<SharedWindow> do_allocate_shared(int64_t bytes) override { return ranks_.allocate_shared(bytes); }

  Communicator& ranks_;
  int64_t sent_ = 0;
};

constexpr int64_t kElements = 5 * 32 * 840;  // parts of 1 to 8 ranks

std::vector<GradientBucket> two_buckets(const Communicator& ranks) {
  return owned_buckets(ranks, {{.begin = 0, .end = 32 * 840, .members = 1, .name = "bias"},
                               {.begin = 32 * 840, .end = kElements, .members = 1, .name = "weight"}});
}

void run_step(GradientReducer& reducer, Stream& stream, int step, float added = 0) {
  for (int leaf = reducer.first_part(); leaf < reducer.last_part(); ++leaf) {
    const View arena = reducer.begin_part(leaf, stream);
    Row row = leaf_gradient(step, leaf, size_t(kElements));
    if (leaf == 0) row[77] += added;
    std::ranges::copy(row, data<float>(arena));
    for (const size_t bucket : {1, 0}) reducer.gradient_ready(bucket, stream);
  }
  if (reducer.first_part() == reducer.last_part()) reducer.without_parts(stream);
  reducer.wait(stream);
}

void expect_sums(const Communicator& ranks, const GradientReducer& reducer, const Row& expected) {
  for (size_t bucket = 0; bucket < 2; ++bucket) {
    const Range own = two_buckets(ranks)[bucket].updates[size_t(ranks.rank())];
    const auto* sum = data<float>(ConstView(reducer.sums(own)));
    ASSERT_TRUE(std::equal(sum, sum + own.size(), expected.begin() + own.begin)) << "bucket " << bucket;
  }
}

TEST(GradientReducerInBf16, RoundsAlongTheTreeOfTheLeavesOnAnyRanksAndNodes) {
  for (const int leaves : cases({3, 1, 8})) {
    const Row expected[] = {tree_of_step(0, leaves, size_t(kElements), DType::bf16),
                            tree_of_step(1, leaves, size_t(kElements), DType::bf16)};
    on_every_group([&](Communicator& ranks) {
      SCOPED_TRACE(str(leaves, " leaves"));
      Stream stream = Stream::cpu(ranks.rank() % 2 + 1);
      HostGradientReducer reducer(ranks, two_buckets(ranks), kElements, ReduceMode::tree, leaves, DType::bf16);
      for (const int step : {0, 1}) {
        run_step(reducer, stream, step);
        expect_sums(ranks, reducer, expected[step]);
      }
    });
  }
}

TEST(GradientReducerInBf16, RoundsInFastModeToo) {
  on_every_group([](Communicator& ranks) {
    Stream stream = Stream::cpu();
    HostGradientReducer reducer(ranks, two_buckets(ranks), kElements, ReduceMode::fast, 24, DType::bf16);
    run_step(reducer, stream, 0);
    expect_sums(ranks, reducer, tree_of_step(0, ranks.size(), size_t(kElements), DType::bf16));
  });
}

TEST(GradientReducerInBf16, SendsHalfTheBytesAndSaysSo) {
  on_every_group([](Communicator& ranks) {
    Stream stream = Stream::cpu();
    int64_t sent[2];
    for (const DType dtype : {DType::f32, DType::bf16}) {
      CountedRanks counted(ranks);
      HostGradientReducer reducer(counted, two_buckets(ranks), kElements, ReduceMode::tree, 8, dtype);
      counted.log().keep_records(true);
      run_step(reducer, stream, 0);
      sent[dtype == DType::bf16] = counted.sent();
      if (ranks.size() == 1) continue;
      ASSERT_EQ(counted.log().records().size(), 2u);
      EXPECT_EQ(counted.log().records()[1].dtype, dtype);
      EXPECT_EQ(counted.log().records()[1].bytes, 4 * 32 * 840 * size_of(dtype));
    }
    EXPECT_EQ(sent[0], 2 * sent[1]);
    // Nodes of a group have ranks that exchange with other nodes: as many as the smallest has.
    if (ranks.place().local_rank == 0) {
      EXPECT_EQ(sent[1] > 0, ranks.place().nodes > 1);
    }
  });
}

TEST(GradientReducerInBf16, SeesALeafThatBf16CannotHold) {
  on_every_group([](Communicator& ranks) {
    Stream stream = Stream::cpu();
    for (const int leaves : {1, 8})
      for (const DType dtype : {DType::f32, DType::bf16}) {
        HostGradientReducer reducer(ranks, two_buckets(ranks), kElements, ReduceMode::tree, leaves, dtype);
        run_step(reducer, stream, 0, std::numeric_limits<float>::max());
        int32_t finite = reducer.sums_are_finite();
        ranks.all_reduce({&finite, DType::i32, DeviceKind::cpu, Shape{}}, ReduceOp::min, stream).wait(stream);
        EXPECT_EQ(finite, dtype == DType::f32) << leaves << " leaves in " << to_string(dtype);
      }
  });
}

TEST(GradientReducerInBf16, IsRefusedWhereMpiAddsAndInOtherDTypes) {
  run_ranks(1, [](Communicator& ranks) {
    const auto refusal = [&](ReduceMode mode, DType dtype) {
      try {
        HostGradientReducer(ranks, two_buckets(ranks), kElements, mode, 1, dtype);
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::usage);
        return std::string(error.what());
      }
      return std::string("no error");
    };
    EXPECT_THAT(refusal(ReduceMode::mpi, DType::bf16),
                AllOf(HasSubstr("--reduce mpi"), HasSubstr("--reduce-dtype bf16"), HasSubstr("'tree'")));
    EXPECT_THAT(refusal(ReduceMode::tree, DType::f64), AllOf(HasSubstr("f32 or bf16"), HasSubstr("f64")));
  });
}

}  // namespace
}  // namespace lockstep
