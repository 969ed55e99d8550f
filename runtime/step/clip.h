// SPDX-License-Identifier: Apache-2.0
// Clipping of reduced gradients: what can be asked for, and norms that have the same bits on any number of ranks.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "collectives/gradients/gradient_reducer.h"
#include "kernels/device/memory.h"
#include "optimizers/step_verdict.h"
#include "runtime/plan/plan.h"

namespace lockstep {

// At most one is above 0; 0: off. The definitions of Keras, g being a variable's gradient over the whole batch.
struct ClipOptions {
  double clipnorm = 0;         // g * c / max(norm of g, c), for each variable
  double global_clipnorm = 0;  // g * c * min(1 / N, 1 / c), N being the norm over all variables
  double clipvalue = 0;        // every element into [-c, c]
  bool by_norm() const { return clipnorm > 0 || global_clipnorm > 0; }
};
// Error(usage) for what is negative, not finite or asked for together.
void check_clip_options(const ClipOptions& options);

// Sums of squares in double, by variable. A variable is cut into chunks from its first element on; ranks of a node take
// chunks in turn, and chunks are added in order: the cut among ranks, nodes and buckets leaves no trace. Every node
// computes all of it from its own copy of the sums, so that no message is needed.
class SquareSums {
 public:
  // Collective: allocates a cell per chunk in memory that the node shares.
  SquareSums(Communicator& communicator, const Plan& plan, Pool& pool);
  SquareSums(const SquareSums&) = delete;
  SquareSums& operator=(const SquareSums&) = delete;
  ~SquareSums();

  // Collective over the ranks of a node, after GradientReducer::wait(). By variable of the plan; until the next run().
  std::span<const double> run(GradientReducer& reducer, Stream& stream);
  // Over all variables, after run(). In the order of a Team over chunks: the one of optimizers/step_verdict.h.
  double total() const { return total_; }

 private:
  struct Chunk {
    int32_t variable, bucket;
    int64_t begin, end;  // elements of the arena
  };
  int64_t window_bytes() const;

  const Place place_;
  Pool& pool_;
  std::vector<Chunk> chunks_;  // of all variables, in order
  std::unique_ptr<SharedWindow> window_;
  std::vector<double> sums_;
  double total_ = 0;
};

}  // namespace lockstep
