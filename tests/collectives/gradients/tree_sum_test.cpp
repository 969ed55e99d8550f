// SPDX-License-Identifier: Apache-2.0
#include "collectives/gradients/tree_sum.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "collectives/gradients/bucket_sum.h"
#include "kernels/device/check.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using Row = std::vector<float>;

std::vector<Row> random_leaves(int leaves, size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<Row> rows(static_cast<size_t>(leaves), Row(n));
  for (Row& row : rows)
    for (float& x : row) x = normal(random) * std::exp2(float(int(random() % 20) - 10));
  return rows;
}

// The definition: the sum of a subtree is the sum of its left part plus the sum of its right part.
Row reference(std::span<const Row> leaves) {
  if (leaves.size() == 1) return leaves[0];
  size_t left = 1;
  while (left * 2 < leaves.size()) left *= 2;
  Row sum = reference(leaves.first(left));
  const Row right = reference(leaves.subspan(left));
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += right[i];
  return sum;
}

// What a rank holds after its leaves when it merges as they come.
std::vector<Row> hold(const LeafStack& stack, const std::vector<Row>& leaves) {
  std::vector<Row> held;
  for (const LeafRange& subtree : stack.held())
    held.push_back(reference(std::span(leaves).subspan(size_t(subtree.begin), size_t(subtree.size()))));
  return held;
}

Row run(const TreeSum& sum, const std::vector<Row>& inputs, int threads = 1) {
  std::vector<const float*> pointers;
  for (const Row& input : inputs) pointers.push_back(input.data());
  Row out(inputs[0].size());
  sum.run(out.data(), pointers, int64_t(out.size()), threads);
  return out;
}

TEST(TreeSum, SplitsAtTheLargestPowerOfTwoBelow) {
  EXPECT_EQ(left_leaves(2), 1);
  EXPECT_EQ(left_leaves(3), 2);
  EXPECT_EQ(left_leaves(4), 2);
  EXPECT_EQ(left_leaves(5), 4);
  EXPECT_EQ(left_leaves(8), 4);
  EXPECT_EQ(left_leaves(24), 16);
}

TEST(TreeSum, RanksOwnConsecutiveLeaves) {
  EXPECT_EQ(leaves_of(0, 3, 8), (LeafRange{0, 2}));
  EXPECT_EQ(leaves_of(1, 3, 8), (LeafRange{2, 5}));
  EXPECT_EQ(leaves_of(2, 3, 8), (LeafRange{5, 8}));
  EXPECT_EQ(leaves_of(0, 8, 3), (LeafRange{0, 0}));
}

TEST(TreeSum, FindsTheLargestOwnedSubtrees) {
  const LeafRange middle{2, 5};
  EXPECT_THAT(maximal_subtrees(8, {&middle, 1}), ElementsAre(LeafRange{2, 4}, LeafRange{4, 5}));
  const LeafRange dealt[] = {{4, 6}, {0, 2}};
  EXPECT_THAT(maximal_subtrees(8, dealt), ElementsAre(LeafRange{0, 2}, LeafRange{4, 6}));
  const LeafRange joined[] = {{2, 4}, {0, 2}};
  EXPECT_THAT(maximal_subtrees(8, joined), ElementsAre(LeafRange{0, 4}));
  EXPECT_TRUE(maximal_subtrees(8, {}).empty());
}

TEST(TreeSum, AddsThreeLeavesFromTheLeft) {
  // (1e8 + 1) + -1e8 is 0 in float; adding the last two first, or from the right, gives 1.
  const LeafRange leaves[] = {{0, 1}, {1, 2}, {2, 3}};
  EXPECT_EQ(run(TreeSum({0, 3}, leaves), {{1e8f}, {1}, {-1e8f}})[0], 0.0f);
}

TEST(TreeSum, AddsFourLeavesInPairs) {
  const LeafRange leaves[] = {{0, 1}, {1, 2}, {2, 3}, {3, 4}};
  // (1e8 + 1) + (-1e8 + 1) = 1e8 - 1e8; from left to right it would be 1.
  EXPECT_EQ(run(TreeSum({0, 4}, leaves), {{1e8f}, {1}, {-1e8f}, {1}})[0], 0.0f);
}

TEST(TreeSum, HasTheSameBitsForEveryNumberOfRanks) {
  for (int leaves = 1; leaves <= 24; ++leaves) {
    const std::vector<Row> values = random_leaves(leaves, 300, unsigned(leaves));
    const Row expected = reference(values);
    for (int ranks = 1; ranks <= 8; ++ranks) {
      std::vector<LeafRange> subtrees;
      std::vector<Row> inputs;
      for (int rank = 0; rank < ranks; ++rank) {
        const LeafStack stack(leaves, leaves_of(rank, ranks, leaves));
        subtrees.insert(subtrees.end(), stack.held().begin(), stack.held().end());
        for (Row& row : hold(stack, values)) inputs.push_back(std::move(row));
      }
      ASSERT_EQ(run(TreeSum({0, leaves}, subtrees), inputs), expected) << leaves << " leaves on " << ranks << " ranks";
    }
  }
}

TEST(TreeSum, HasTheSameBitsInAnyOrderOfInputsOnAnyNumberOfThreads) {
  const std::vector<Row> values = random_leaves(11, 150'001, 7);
  const Row expected = reference(values);
  std::vector<size_t> order{3, 0, 10, 7, 1, 9, 2, 8, 4, 6, 5};
  std::vector<LeafRange> subtrees;
  std::vector<Row> inputs;
  for (const size_t leaf : order) {
    subtrees.push_back({int(leaf), int(leaf) + 1});
    inputs.push_back(values[leaf]);
  }
  for (const int threads : {1, 2, 3}) EXPECT_EQ(run(TreeSum({0, 11}, subtrees), inputs, threads) == expected, true);
}

TEST(TreeSum, MayWriteOverAnyInput) {
  const LeafRange leaves[] = {{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}};
  const Row expected = reference(random_leaves(5, 3000, 5));
  for (size_t target = 0; target < 5; ++target) {
    std::vector<Row> values = random_leaves(5, 3000, 5);
    std::vector<const float*> pointers;
    for (const Row& row : values) pointers.push_back(row.data());
    TreeSum({0, 5}, leaves).run(values[target].data(), pointers, 3000, 1);
    EXPECT_EQ(values[target], expected);
  }
}

// The kernel of GPUs, on the host: the same additions in one pass.
TEST(TreeSum, HasTheSameBitsFromTheKernel) {
  Stream stream = Stream::cpu(2);
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int leaves : {2, 3, 8, 13, 64}) {
      const std::vector<Row> rows = random_leaves(leaves, 1000, unsigned(leaves));
      std::vector<LeafRange> single;
      for (int leaf = 0; leaf < leaves; ++leaf) single.push_back({leaf, leaf + 1});
      const TreeSum sum({0, leaves}, single, dtype);
      Row out(1000);
      AddAlongTree kernel{.out = {out.data(), DType::f32, DeviceKind::cpu, Shape{1000}},
                          .tree = sum.for_kernel(),
                          .to_bf16 = dtype == DType::bf16};
      for (size_t leaf = 0; leaf < rows.size(); ++leaf) kernel.tree.inputs[leaf] = rows[leaf].data();
      launch(stream, kernel);
      EXPECT_TRUE(out == run(sum, rows)) << leaves << " leaves in " << to_string(dtype);
    }
}

TEST(TreeSum, RefusesInputsThatDoNotMakeUpTheWhole) {
  const LeafRange gap[] = {{0, 2}, {3, 4}}, twice[] = {{0, 2}, {2, 4}, {2, 3}};
  EXPECT_THROW(TreeSum({0, 4}, gap), Error);
  EXPECT_THROW(TreeSum({0, 4}, twice), Error);
}

TEST(LeafStack, HoldsAtMostOneSumPerLevel) {
  EXPECT_EQ(LeafStack(8, {0, 8}).arenas(), 4);
  EXPECT_EQ(LeafStack(8, {0, 4}).arenas(), 3);
  EXPECT_EQ(LeafStack(8, {3, 4}).arenas(), 1);
  EXPECT_EQ(LeafStack(8, {4, 4}).arenas(), 1);
  EXPECT_THAT(LeafStack(8, {2, 5}).held(), ElementsAre(LeafRange{2, 4}, LeafRange{4, 5}));
}

}  // namespace
}  // namespace lockstep
