// SPDX-License-Identifier: Apache-2.0
// Sums gradients on ranks with a GPU each, which share no memory: every rank ends with the whole sum.
//
// In mode tree each rank adds one slice of a bucket over all leaves, in the canonical tree of tree_sum.h, and hands it
// to the others: the same bits on any number of ranks, whatever carries them. On several nodes the ranks of each first
// add up what their node has of every slice, along the subtrees of its leaves, so that little travels between nodes.
// Mode fast is the transport's all-reduce.
// With dtype bf16 buckets are packed before they travel and widened after it; arenas are f32.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "collectives/device/device_communicator.h"
#include "collectives/gradients/bucket_progress.h"
#include "collectives/gradients/bucket_sum.h"
#include "collectives/gradients/gradient_reducer.h"
#include "kernels/device/memory.h"

namespace lockstep {

// Consecutive ranks of which so many are on each node.
struct RankNodes {
  int64_t ranks = 1;
  int64_t on_each = 0;  // a divisor of ranks; 0: all are on one node, or it does not matter where they are
  // Whether something is to be added up within nodes.
  bool several() const { return on_each > 1 && on_each < ranks; }
  int64_t nodes() const { return several() ? ranks / on_each : 1; }
};

// Bytes of device memory that each rank holds: arenas of `elements` f32 for the sums it keeps while it computes leaf
// after leaf, and room for the others' slices of a bucket of `widest_bucket` elements; with dtype bf16 also room for
// one packed bucket of each arena. `leaves` is the number in the batch, one per rank in mode fast.
int64_t device_gradient_bytes(ReduceMode mode, RankNodes ranks, int leaves, int64_t elements, int64_t widest_bucket,
                              DType dtype);

class DeviceGradientReducer final : public GradientReducer {
 public:
  // Arenas are zero at first; what lies between variables stays zero. Error(usage) for mode mpi, which sums in memory
  // of the host. `elements` counts the f32 of one arena; the size of every bucket is divisible by 32 x ranks.
  // `ranks_of_node` is RankNodes::on_each, equal on all ranks; what it is does not change the bits.
  DeviceGradientReducer(DeviceCommunicator& data_axis, std::vector<GradientBucket> buckets, int64_t elements,
                        ReduceMode mode, int virtual_ranks, Pool& pool, Stream& compute, DType dtype = DType::f32,
                        int64_t ranks_of_node = 0);

  int first_part() const override { return stack_.own().begin; }
  int last_part() const override { return stack_.own().end; }
  View begin_part(int leaf, Stream& compute) override;
  void gradient_ready(size_t bucket, Stream& compute) override;
  void without_parts(Stream& compute) override;
  void wait(Stream& compute) override;
  View sums(Range elements) const override { return slice(arena(0), elements.begin, elements.end); }
  View gathered(size_t, Range elements, const View&, Stream&) const override { return sums(elements); }
  // The device looks at the sums where it measures their norms.
  Range looked_at(size_t) const override { return {}; }
  bool sums_are_finite() const override { return true; }
  void meet() override {}
  int64_t shared_bytes() const override { return 0; }

 private:
  // Where a rank holds a sum, of which this rank adds up one slice.
  struct Held {
    int rank, arena;
  };
  // A sum of some of the leaves of this node: of the sums [first, first + tree.inputs()) that its ranks hold.
  struct Partial {
    size_t first;
    TreeSum tree;
  };
  View arena(int index) const;
  View bucket_of(int arena, size_t bucket) const;
  // The bucket as it travels: itself, or its bf16.
  View on_the_wire(int arena, size_t bucket) const;
  View part(size_t bucket, const View& whole, int rank) const;
  void publish(Stream& compute);
  Work start(size_t bucket, Stream& compute);
  Work start_packed(size_t bucket, Stream& compute);
  Work sum_over_ranks(size_t bucket, Stream& after);
  void plan_nodes(int leaves);
  void sum_within_node(size_t bucket, Stream& after);
  void sum_across_nodes(size_t bucket);
  void add(Stream& stream, const View& into, const View& from) const;
  void add_up(Stream& stream, const TreeSum& tree, std::span<const View> inputs, const View& out) const;
  void add_slice(size_t bucket, Stream& stream);
  View slice_of(const Held& held, size_t bucket, size_t input) const;
  View letter(size_t bucket, int64_t number) const;
  View held_in_node(size_t bucket, size_t input, int node) const;
  int own_node() const { return int(comm_.rank() / nodes_.on_each); }
  // The rank of a node that adds up the slices of the ranks in the same place of other nodes.
  int peer_on(int node) const { return int(node * nodes_.on_each + comm_.rank() % nodes_.on_each); }

  DeviceCommunicator& comm_;
  RankNodes nodes_;
  ReduceMode mode_;
  DType dtype_;
  int64_t elements_;
  LeafStack stack_;
  BucketProgress buckets_;
  std::vector<Held> held_;  // sums that all ranks hold after their last leaf
  TreeSum tree_;            // over held_
  // With several nodes:
  std::vector<Held> node_held_;      // those of held_ that ranks of this node hold
  std::vector<Partial> partials_;    // what this node makes of them
  std::vector<int> sums_of_nodes_;   // how many sums each node has in the end
  std::vector<TreeSum> across_;      // one: over the sums of all nodes, in their order
  int64_t first_letter_across_ = 0;  // behind the letters from ranks of this node
  Buffer arenas_, packed_, letters_;
  std::vector<Work> works_;  // one per bucket
};

}  // namespace lockstep
