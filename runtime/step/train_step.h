// SPDX-License-Identifier: Apache-2.0
// One training step of a data-parallel run, the same sequence on every device: the parts of this rank forward and
// backward, gradients summed over ranks, one decision of all ranks, one update, and everybody sees it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/batch_upload.h"
#include "runtime/step/arena_update.h"
#include "runtime/step/step_clock.h"
#include "runtime/step/step_decision.h"
#include "runtime/step/step_graphs.h"
#include "runtime/step/step_options.h"

namespace lockstep {

class TrainStep {
 public:
  // Collective: allocates the gradient arenas. How gradients are reduced says the plan of `variables`. All references
  // outlive the step. Error(usage) for options that contradict each other.
  TrainStep(Communicator& communicator, VariableStore& variables, const OptimizerSet& optimizer, Forward forward,
            Stream& stream, Pool& pool, uint64_t seed, const StepOptions& options = {});
  TrainStep(const TrainStep&) = delete;
  TrainStep& operator=(const TrainStep&) = delete;
  ~TrainStep();

  // The parts of the batch that this rank is to be given, [first_part, last_part).
  int first_part() const { return reducer_->first_part(); }
  int last_part() const { return reducer_->last_part(); }

  // Collective; views of `input` lie on the host and may be reused on return. A step whose gradient is not finite after
  // the sums is skipped by all ranks: nothing changes, not even the counter. On CPU ranks the step is done on return,
  // and Error(numbers) is thrown as by report(); a GPU has been given all of it, and nothing waits for it.
  void queue(const StepInput& input);
  // What the last step came to; waits for it. Throws Error(numbers) on every rank when a loss was not finite: from that
  // step on no variable has changed.
  StepReport report();
  StepReport run(const StepInput& input) {
    queue(input);
    return report();
  }

  // From the next step on, a trained variable is not updated, or updated again; it keeps its slots. Its gradient is
  // still computed, summed, and part of norms. The same on all ranks. Error(plan) for a path that is not trained.
  void set_frozen(std::string_view path, bool frozen);

  // Collective: parameters become their running averages, where there are any, as at the end of training.
  void take_averages() { update_.take_averages(*reducer_, stream_); }

  // Variables that got no gradient in the last step, as indices of the plan.
  const std::vector<int32_t>& unused_variables() const { return tape_.unused_variables(); }

  // The names of the model's sums. A rank that has computed no part yet does not know them otherwise. Error(usage)
  // where they are not the ones returned before.
  void learn_sums(const std::vector<std::string>& names);

 private:
  void take(const StepInput& input, const ConstView& dropout_key);
  void compute_part(const BatchPart& part, const ConstView& dropout_key, int64_t global_count);
  void ready(int32_t variable);
  void watch_variables(const View& arena, Tape::Destination destination);
  void mark(StepMark mark) {
    if (!options_.graph) clock_.mark(mark, stream_);
  }
  void check_loss();

  Communicator& ranks_;
  VariableStore& variables_;
  Forward forward_;
  Stream& stream_;
  Pool& pool_;
  uint64_t seed_;
  StepOptions options_;
  std::vector<GradientBucket> buckets_;
  std::unique_ptr<GradientReducer> reducer_;
  StepTables tables_;
  StepDecision decision_;
  ArenaUpdate update_;
  BatchUpload upload_;
  StepGraphs graphs_;
  StepClock clock_;
  Tape tape_;
  std::vector<std::string> sum_names_;  // as the model has returned them
  int64_t first_step_ = -1;             // the number of the first step that was queued
};

}  // namespace lockstep
