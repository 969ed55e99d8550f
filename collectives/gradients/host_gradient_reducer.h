// SPDX-License-Identifier: Apache-2.0
// Sums gradients on ranks that share the memory of their node: the arenas of all ranks lie in one window, each rank
// adds up a slice of a bucket in place, and the others see it without a message. Several nodes exchange the sums of
// their leaves.
#pragma once

#include <memory>

#include "collectives/communicator.h"
#include "collectives/gradients/gradient_reducer.h"

namespace lockstep {

// Bytes of shared memory that rank `rank` of `ranks` contributes for `leaves` leaves: an arena of `elements` f32 for
// every sum that waits for its sibling in the tree, and a header.
int64_t gradient_bytes(int rank, int64_t ranks, int leaves, int64_t elements);

class HostGradientReducer final : public GradientReducer {
 public:
  // Collective: allocates the arenas in node-shared memory. `elements` counts the f32 of one arena. Error(usage) for
  // mode mpi on ranks that are threads.
  HostGradientReducer(Communicator& data_axis, std::vector<GradientBucket> buckets, int64_t elements, ReduceMode mode,
                      int virtual_ranks, DType dtype = DType::f32);
  ~HostGradientReducer() override;

  int first_part() const override;
  int last_part() const override;
  View begin_part(int leaf, Stream& compute) override;
  void gradient_ready(size_t bucket, Stream& compute) override;
  void without_parts(Stream& compute) override;
  // Blocks until the sums are there.
  void wait(Stream& compute) override;
  View sums(Range elements) const override;
  View gathered(size_t bucket, Range elements, const View& scratch, Stream& stream) const override;
  Range looked_at(size_t bucket) const override;
  bool sums_are_finite() const override;
  void meet() override;
  int64_t shared_bytes() const override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lockstep
