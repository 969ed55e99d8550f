// SPDX-License-Identifier: Apache-2.0
// Sums a range of the gradient arenas over all leaves in the canonical tree; each rank of a node takes one slice.
// Internal to collectives/.
#pragma once

#include <vector>

#include "collectives/communicator.h"
#include "collectives/gradients/gradient_reducer.h"
#include "collectives/gradients/tree_sum.h"
#include "collectives/partition.h"

namespace lockstep {

// The arenas of the ranks of this node, in one shared window.
struct Arenas {
  const SharedWindow* window = nullptr;
  int64_t offset = 0;  // bytes in front of a segment's first arena
  int64_t stride = 0;  // bytes from one arena to the next
  float* at(int local_rank, int arena) const {
    return reinterpret_cast<float*>(static_cast<char*>(window->segment(local_rank)) + offset + arena * stride);
  }
};

// A rank keeps sums while it computes leaf after leaf: before leaf i it holds the maximal subtrees of the leaves it has
// done, one in each of its first arenas, and leaf i goes into the next arena. Returns how many arenas a rank with the
// leaves `own` needs for this, at least one.
int leaf_arenas(int leaves, LeafRange own);

class LeafStack {
 public:
  // `dtype` is that of the sums, as in TreeSum.
  LeafStack(int leaves, LeafRange own, DType dtype = DType::f32);
  LeafRange own() const { return own_; }
  int arenas() const { return arenas_; }
  int arena_of(int leaf) const { return levels_[size_t(leaf - own_.begin)]; }
  // Adds a finished leaf to the sums below it, as far as subtrees are complete. A leaf that completes none stays as it
  // is, and so does the last one: the code that adds it rounds it.
  void merge(int leaf, const Arenas& arenas, int local_rank, Range elements, int threads) const;
  // The sum that merge() makes of the arenas [target, target + sum->inputs()) after `leaf`; null after the last one.
  struct Merge {
    int target = 0;
    const TreeSum* sum = nullptr;
  };
  Merge merge_after(int leaf) const;
  // What the arenas hold after the last leaf.
  const std::vector<LeafRange>& held() const { return held_; }

 private:
  LeafRange own_;
  int arenas_;
  std::vector<int> levels_;      // one per own leaf: the number of sums on the stack before it
  std::vector<TreeSum> merges_;  // one per own leaf but the last
  std::vector<int> targets_;     // one per own leaf but the last: the arena of the merged sum
  std::vector<LeafRange> held_;
};

class BucketSum {
 public:
  // `dtype` is that of the sums, and of the messages between nodes.
  BucketSum(const Communicator& comm, int leaves, DType dtype);

  // Adds up the elements that bucket.sums gives to this rank; the arenas must be final on all ranks of this node. With
  // several nodes, all ranks call this for the same buckets in the same order and meet before they look at the sums.
  // Returns whether the sums are finite.
  bool run(Communicator& comm, const Arenas& arenas, const GradientBucket& bucket, int threads) const;
  // The arena in which run() leaves the sum.
  float* result(const Arenas& arenas) const;

 private:
  struct Held {
    int local_rank, arena;
  };
  // How arenas of this node add up to one of its subtrees.
  struct Partial {
    TreeSum sum;
    std::vector<Held> held;
  };
  struct Node {
    std::vector<LeafRange> subtrees;
    int peer;  // the rank on that node whose local rank equals this rank's; -1 where some node has none
  };
  bool run_across_nodes(Communicator& comm, const Arenas& arenas, const GradientBucket& bucket, int threads) const;
  std::vector<const float*> inputs_of(const Partial& partial, const Arenas& arenas, Range elements) const;

  Place place_;
  DType dtype_;
  int rank_;
  std::vector<Node> nodes_;
  std::vector<Partial> partials_;
  std::vector<TreeSum> across_;  // with several nodes, one sum: from the subtrees of all nodes to the whole
};

}  // namespace lockstep
