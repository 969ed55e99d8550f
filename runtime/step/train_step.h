// SPDX-License-Identifier: Apache-2.0
// One training step of a data-parallel run: forward and backward of this rank's leaves, gradient sums, fused update.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/data/step_input.h"
#include "runtime/step/step_engine.h"

namespace lockstep {

class TrainStep {
 public:
  // Collective: allocates the gradient arenas. All references must outlive the step. Error(usage) for options that
  // contradict each other.
  TrainStep(Communicator& communicator, VariableStore& variables, const OptimizerSet& optimizer, Forward forward,
            ReduceMode mode, Stream& stream, Pool& pool, uint64_t seed, const StepOptions& options = {});

  // The leaves this rank is to be given, [first_leaf, last_leaf).
  int first_leaf() const { return engine_->first_leaf(); }
  int last_leaf() const { return engine_->last_leaf(); }

  // Collective; views of `input` lie on the host and may be reused on return. A step whose gradient is not finite after
  // the sums is skipped by all ranks: nothing changes, not even the counter. On CPU ranks the step is done on return; a
  // GPU has been given all of it, and nothing waits for it.
  void queue(const StepInput& input);
  // What the last step came to; waits for it. Throws Error(numbers) on every rank when a loss was not finite: from that
  // step on no variable has changed.
  StepReport report() { return engine_->report(); }
  StepReport run(const StepInput& input) {
    queue(input);
    return report();
  }

  // From the next step on, a trained variable is not updated, or updated again; it keeps its slots. Its gradient is
  // still computed, summed, and part of norms. The same on all ranks. Error(plan) for a path that is not trained.
  void set_frozen(std::string_view path, bool frozen);

  // Collective: parameters become their running averages, where there are any, as at the end of training.
  void take_averages() { engine_->take_averages(); }

  // Variables that got no gradient in the last step, as indices of the plan.
  const std::vector<int32_t>& unused_variables() const { return tape_.unused_variables(); }

 private:
  void run_leaf(const LeafInput& leaf, const ConstView& dropout_key, int64_t global_count);
  void ready(int32_t variable);
  void watch_variables(const View& arena, Tape::Destination destination);

  VariableStore& variables_;
  Forward forward_;
  Stream& stream_;
  Pool& pool_;
  Tape tape_;
  std::unique_ptr<StepEngine> engine_;
};

}  // namespace lockstep
