// SPDX-License-Identifier: Apache-2.0
// The canonical sum: leaves are added along one binary tree that depends on their number alone, whoever holds them.
//
// A subtree of n leaves has the largest power of two below n as its left child and the rest as its right one. Whoever
// owns all leaves of a subtree may add them up at once; the rounding, and so the bits, are those of the whole tree.
//
// With dtype bf16 every leaf, and every sum of two subtrees, is rounded to the nearest bf16. So what a rank holds of a
// sum can travel as a bf16, wherever the tree is cut into ranks. Arrays stay f32.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/add_along_tree.h"
#include "kernels/device/dtype.h"

namespace lockstep {

// Leaves [begin, end).
struct LeafRange {
  int begin = 0, end = 0;
  int size() const { return end - begin; }
  friend bool operator==(const LeafRange&, const LeafRange&) = default;
};

// The leaves of one rank: [floor(rank leaves / ranks), floor((rank + 1) leaves / ranks)).
LeafRange leaves_of(int rank, int ranks, int leaves);

// Leaves in the left child of a subtree of `leaves` >= 2 leaves.
int left_leaves(int leaves);

// The largest subtrees whose leaves all lie in `owned` (disjoint ranges in any order), ascending.
std::vector<LeafRange> maximal_subtrees(int leaves, std::span<const LeafRange> owned);

// The number of those for one range.
int sums_held(int leaves, LeafRange owned);

// The additions that turn the sums of some subtrees into the sum of the subtree they make up.
class TreeSum {
 public:
  // `inputs` are disjoint subtrees of `whole` that cover it, in any order. `dtype` is f32 or bf16.
  TreeSum(LeafRange whole, std::span<const LeafRange> inputs, DType dtype = DType::f32);

  size_t inputs() const { return inputs_; }
  // The same additions in place, in order: input `into` += input `from`, each of which then stands for the sum. The
  // whole sum ends in the input that holds the first leaf.
  struct Addition {
    int into, from;
  };
  std::vector<Addition> additions() const;
  // The same for a kernel, which takes up to AdditionTree::kMostInputs; it is to name the inputs' addresses.
  AdditionTree for_kernel() const;
  // out[i] = sum over the inputs at i, for i in [0, n). `out` may be one of the inputs. A single input that is `out` is
  // rounded, which does nothing in f32.
  void run(float* out, std::span<const float* const> inputs, int64_t n, int threads) const;
  // The same, but returns whether all of `out` is finite, looking while the sums are in the first-level cache. Only in
  // f32, with a single input that is `out`, does this read memory that nothing else reads.
  bool run_and_look(float* out, std::span<const float* const> inputs, int64_t n, int threads) const;

 private:
  static constexpr int kAdd = -1;
  bool nothing_to_add(const float* out, std::span<const float* const> inputs) const {
    return program_.size() == 1 && inputs[0] == out && dtype_ == DType::f32;
  }
  void plan(LeafRange subtree, std::span<const LeafRange> inputs, int depth);
  void run_block(float* out, std::span<const float* const> inputs, int64_t begin, int64_t n) const;
  template <class Kept>
  void run_block_as(float* out, std::span<const float* const> inputs, int64_t begin, int64_t n) const;

  std::vector<int> program_;  // postfix: the number of an input, or kAdd
  size_t inputs_;
  DType dtype_;
};

}  // namespace lockstep
