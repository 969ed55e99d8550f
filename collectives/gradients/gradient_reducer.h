// SPDX-License-Identifier: Apache-2.0
// Sums gradient buckets over ranks while the backward pass goes on, in an order that is a function of the leaves alone.
//
// The global batch of a step is cut into V leaves (virtual ranks). Rank r of P computes the leaves
// [floor(r V / P), floor((r + 1) V / P)). A leaf's gradient is written into an arena. The sum over leaves follows one
// canonical tree (see tree_sum.h), so it has the same bits for every P.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "collectives/partition.h"
#include "collectives/reduce_mode.h"
#include "kernels/device/device.h"
#include "kernels/device/view.h"

namespace lockstep {

// The number of leaves that a batch is cut into.
inline int parts_of_batch(ReduceMode mode, int virtual_ranks, int ranks) {
  return mode == ReduceMode::tree ? virtual_ranks : ranks;
}

// Elements [begin, end) of the gradient arena that travel together, and who owns which of them. The plan makes their
// number divisible by 32 x ranks, so that slices start on 128 bytes.
struct GradientBucket {
  int64_t begin = 0, end = 0;
  int members = 0;            // gradients that must be final before the bucket may start
  std::string name = {};      // the variables in it, for messages
  std::vector<Range> sums{};  // one per rank: the elements it adds up over all leaves; every element has one such rank
  std::vector<Range> updates{};  // one per rank: the elements it updates, whose sum it needs

  Range range() const { return {begin, end}; }
};

// The sums of a step, in any memory: HostGradientReducer for ranks on CPUs, DeviceGradientReducer for ranks with a GPU
// each. Calls that take a stream are queued on it; on the CPU they are done on return.
class GradientReducer {
 public:
  GradientReducer() = default;
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;
  virtual ~GradientReducer() = default;

  // The leaves that this rank computes, ascending: [first_part, last_part). Empty when ranks outnumber leaves.
  virtual int first_part() const = 0;
  virtual int last_part() const = 0;

  // Where the gradients of `leaf` go: the whole arena, [elements] f32. Leaves come in ascending order in every step.
  virtual View begin_part(int leaf, Stream& compute) = 0;
  // Called once per member of `bucket` and leaf, in any order, as each gradient becomes final. The bucket starts when
  // the last member of the last local leaf arrives; buckets start in plan order, whatever order they fill in.
  virtual void gradient_ready(size_t bucket, Stream& compute) = 0;
  // A rank without leaves calls this instead of begin_part / gradient_ready.
  virtual void without_parts(Stream& compute) = 0;
  // Makes the sums over all leaves ready for what `compute` is given next. Error(collective) names the bucket, its
  // missing gradients or the ranks that did not come.
  virtual void wait(Stream& compute) = 0;

  // The sums of `elements`, which this rank updates and which were merged from buckets in their order; valid after
  // wait() until the next begin_part().
  virtual View sums(Range elements) const = 0;
  // The sums of `elements` of one bucket in one piece, whichever ranks of this node own them, either in place or copied
  // to `scratch` ([elements] f32). On ranks that share memory this comes between two meet()s.
  virtual View gathered(size_t bucket, Range elements, const View& scratch, Stream& stream) const = 0;

  // The elements of `bucket` that this rank added up and then looked at on the host; empty where sums are looked at on
  // the device.
  virtual Range looked_at(size_t bucket) const = 0;
  // Whether all of those are finite, as seen while they were added.
  virtual bool sums_are_finite() const = 0;

  // Makes what this rank wrote to memory of its node (updated parameters) visible to the ranks that share it, and waits
  // for theirs. Ranks with memory of their own return at once.
  virtual void meet() = 0;
  // Bytes of memory shared by the node that this rank contributed.
  virtual int64_t shared_bytes() const = 0;
};

}  // namespace lockstep
