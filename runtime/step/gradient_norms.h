// SPDX-License-Identifier: Apache-2.0
// Sums squares of reduced gradients in double, chunk by chunk: norms for clipping, and on GPUs the search for numbers
// that are not finite. A variable is cut into chunks from its first element on, and chunks are added in order, so that
// neither ranks nor nodes nor buckets leave a trace in the bits.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/gradients/gradient_reducer.h"
#include "kernels/device/memory.h"
#include "runtime/plan/plan.h"

namespace lockstep {

class GradientNorms {
 public:
  // Collective. Ranks that share memory get a cell per chunk in memory of their node; every node computes all of them
  // from its own copy of the sums, so that no message is needed. A GPU has the cells to itself.
  GradientNorms(Communicator& ranks, const Plan& plan, Pool& pool, Stream& stream);
  GradientNorms(const GradientNorms&) = delete;
  GradientNorms& operator=(const GradientNorms&) = delete;
  ~GradientNorms();

  // Called after GradientReducer::wait(). Queued on `stream`; the CPU ranks of a node take chunks in turn and meet.
  void measure(GradientReducer& reducer, Stream& stream);

  // The squares of all trained variables in the order of the plan, [variables], in memory of the device.
  const double* squares() const { return static_cast<const double*>(squares_.data()); }

 private:
  struct Chunk {
    size_t bucket;
    Range elements;  // range in the arena
  };
  void measure_on_host(GradientReducer& reducer, Stream& stream);
  void add_up_chunks(const void* chunks, Stream& stream);
  int64_t window_bytes() const;

  const Place place_;
  Pool& pool_;
  int64_t arena_elements_;
  int threads_;
  std::vector<Chunk> chunks_;
  int64_t longest_ = 0;  // elements of a chunk, at most
  // CPU ranks only: a cell per chunk, and for each thread room for a chunk that lies in slices of several ranks.
  std::unique_ptr<SharedWindow> window_;
  std::unique_ptr<float[]> gathered_;
  // On the device. Sums of chunks and their borders are there on GPUs only; ranks on CPUs have them in the window.
  Buffer squares_, first_chunk_, chunk_squares_, begins_, ends_;
};

}  // namespace lockstep
