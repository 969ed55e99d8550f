// SPDX-License-Identifier: Apache-2.0
// Sums gradient buckets over ranks while backward is still running, in an order that is a function of the leaves alone.
//
// The global batch of a step is cut into V leaves (virtual ranks). Rank r of P owns the leaves
// [floor(r V / P), floor((r + 1) V / P)). A leaf's gradient is written into an arena; arenas live in memory shared by
// the node. The sum over leaves follows one canonical tree (see tree_sum.h), so it has the same bits for every P.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/reduce_mode.h"
#include "kernels/device/view.h"

namespace lockstep {

// Elements [begin, end) of the gradient arena that travel together. The planner makes end - begin divisible by
// 32 x ranks, so that slices start on 128 bytes.
struct GradientBucket {
  int64_t begin = 0, end = 0;
  int members = 0;   // gradients that must be final before the bucket may start
  std::string name;  // for messages: the variables in it
};

// Bytes of shared memory that rank `rank` of `ranks` contributes for `leaves` leaves: an arena of `elements` f32 for
// every sum that waits for its sibling in the tree, and a header.
int64_t gradient_bytes(int rank, int64_t ranks, int leaves, int64_t elements);

class GradientReducer {
 public:
  // Collective: allocates the arenas in node-shared memory. `elements`: f32 elements of one arena.
  GradientReducer(Communicator& data_axis, std::vector<GradientBucket> buckets, int64_t elements, ReduceMode mode,
                  int virtual_ranks, DType dtype = DType::f32);
  ~GradientReducer();

  // The leaves that this rank computes, ascending: [first_leaf, last_leaf). Empty when ranks outnumber leaves.
  int first_leaf() const;
  int last_leaf() const;

  // Where the gradients of `leaf` go: the whole arena, [elements] f32. Leaves come in ascending order in every step.
  View begin_leaf(int leaf);
  // Called once per member of `bucket` and leaf, in any order, as each gradient becomes final. When the last member of
  // the last local leaf arrives the bucket starts; buckets start in plan order, whatever order they fill in.
  void gradient_ready(size_t bucket, Stream& compute);
  // A rank without leaves calls this instead of begin_leaf / gradient_ready.
  void no_leaves();
  // Blocks until the owned slices hold the sum over all leaves. Throws Error(collective) naming the bucket, its missing
  // gradients or the ranks that did not come.
  void wait(Stream& compute);

  // The sum over all leaves for the slice of `bucket` this rank owns, valid after wait() until the next begin_leaf.
  // The slices of the ranks of one node cover the bucket exactly once.
  struct Slice {
    int64_t begin = 0, end = 0;  // elements of the arena
    View sum;                    // [end - begin]
  };
  Slice owned(size_t bucket) const;

  // Whether all sums that this rank added up itself are finite, known from adding them. Valid like owned().
  bool sums_are_finite() const;
  // Which those are in `bucket`: every element has one rank that added it up.
  Slice summed(size_t bucket) const;
  // visit(values, n) for the sums of the elements [begin, end) of `bucket` piece by piece in order, whichever ranks of
  // the node own them. Between a node_barrier() after wait() and one before any rank clears its slices.
  using Visit = std::function<void(const float* values, int64_t n)>;
  void visit_sums(size_t bucket, int64_t begin, int64_t end, const Visit& visit) const;
  size_t buckets() const;

  // Makes writes of this rank to node-shared memory (updated parameters) visible to the ranks of its node, and waits
  // for theirs.
  void node_barrier();

  // Bytes of shared memory this rank contributed (arenas).
  int64_t shared_bytes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lockstep
