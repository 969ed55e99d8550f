// SPDX-License-Identifier: Apache-2.0
// One training step of a data-parallel run: forward and backward of this rank's leaves, gradient sums, fused update.
// Everything that is specific to training in parallel is visible in train_step.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/gradient_reducer.h"
#include "optimizers/optimizer.h"
#include "runtime/clip.h"
#include "runtime/context.h"
#include "runtime/variable_store.h"

namespace lockstep {

// The samples of one leaf. A leaf without samples is allowed: its gradient is zero.
struct LeafInput {
  int leaf;
  ConstView inputs;      // [samples, ...] f32
  ConstView labels;      // [samples] i32
  ConstView sample_ids;  // [samples] i64, global
};

// The global batch of a step, as far as this rank computes it.
struct StepInput {
  int64_t step;          // from 0
  int64_t global_count;  // samples of all leaves of all ranks
  std::span<const LeafInput> leaves;
};

// What a model returns for a leaf, one element per sample.
struct SampleResults {
  Tensor loss;     // [samples], on the tape
  Tensor correct;  // [samples], 1 where the answer is right
};
using Forward = std::function<SampleResults(Context&, const LeafInput&)>;

struct StepReport {
  float loss = 0;       // mean over the global batch, equal bits on every rank
  int64_t correct = 0;  // right answers of the global batch
  // Whether some gradient was not finite, so that no rank has updated anything, and the first variable it belongs to.
  bool skipped = false;
  std::string_view not_finite;
  double compute_seconds = 0;
  double communication_seconds = 0;  // waiting for and summing with other ranks; nothing of it is hidden on CPU ranks
};

class TrainStep {
 public:
  // Collective: allocates the gradient arenas. All references must outlive the step. Error(usage) for clip options that
  // contradict each other.
  TrainStep(Communicator& communicator, VariableStore& variables, const Optimizer& optimizer, Forward forward,
            ReduceMode mode, Stream& stream, Pool& pool, uint64_t seed, const ClipOptions& clip = {});
  ~TrainStep();

  // The leaves this rank is to be given, [first_leaf, last_leaf).
  int first_leaf() const { return reducer_.first_leaf(); }
  int last_leaf() const { return reducer_.last_leaf(); }

  // Collective. A step whose gradient is not finite after the sums is skipped by all ranks: nothing changes, not even
  // the counter. Throws Error(numbers) on every rank when the loss is not finite; no variable has changed then.
  StepReport run(const StepInput& input);

  // Variables that got no gradient in the last step, as indices of the plan.
  const std::vector<int32_t>& unused_variables() const { return tape_.unused_variables(); }

 private:
  void run_leaf(const StepInput& input, const LeafInput& leaf);
  void watch_variables(const View& arena);
  int32_t first_not_finite() const;
  void exchange_results(StepReport& report);
  void check_loss(const StepInput& input, float loss) const;
  void update();
  void measure_norms();
  void update_bucket(size_t bucket, int64_t step);
  void update_range(const GradientReducer::Slice& owned, int64_t begin, int64_t end, int64_t step);
  void clear_gradients();

  Communicator& communicator_;
  VariableStore& variables_;
  const Optimizer& optimizer_;
  Forward forward_;
  Stream& stream_;
  Pool& pool_;
  uint64_t seed_;
  Tape tape_;
  GradientReducer reducer_;
  int leaves_;  // of the whole batch
  // By leaf: loss, right answers; then by rank: one plus its first variable with a gradient that is not finite, or 0.
  std::vector<double> results_;
  StepScalars scalars_;
  ClipOptions clip_;
  std::optional<SquareSums> squares_;  // where clipping needs norms
  std::vector<float> factors_;         // by variable of the plan, where each is clipped by its own norm
  std::vector<View> slots_;            // of the range at work
};

}  // namespace lockstep
