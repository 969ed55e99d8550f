// SPDX-License-Identifier: Apache-2.0
// One training step of a data-parallel run, with the same sequence on every device: this rank's parts run forward and
// backward, gradients are summed over ranks, all ranks take one decision and one update, and everybody sees it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "collectives/device/device_communicator.h"
#include "runtime/data/batch_upload.h"
#include "runtime/step/arena_update.h"
#include "runtime/step/audit/part_record.h"
#include "runtime/step/step_clock.h"
#include "runtime/step/step_decision.h"
#include "runtime/step/step_graphs.h"
#include "runtime/step/step_options.h"

namespace lockstep {

class TrainStep {
 public:
  // Collective: allocates the gradient arenas. The plan of `variables` says how gradients are reduced. All references
  // outlive the step. Error(usage) for options that contradict each other.
  TrainStep(Communicator& communicator, VariableStore& variables, const OptimizerSet& optimizer, Forward forward,
            Stream& stream, Pool& pool, uint64_t seed, const StepOptions& options = {});
  TrainStep(const TrainStep&) = delete;
  TrainStep& operator=(const TrainStep&) = delete;
  ~TrainStep();

  // The parts of the batch that this rank must be given, [first_part, last_part).
  int first_part() const { return reducer_->first_part(); }
  int last_part() const { return reducer_->last_part(); }

  // Collective; views of `input` lie on the host and may be reused on return. All ranks skip a step whose summed
  // gradient is not finite: nothing changes, not even the counter. On CPU ranks the step is done on return, and
  // Error(numbers) is thrown as by report(); a GPU has been given all of it, and nothing waits for it.
  void queue(const StepInput& input);
  // Reports what the last step came to, and waits for it. Throws Error(numbers) on every rank when a loss was not
  // finite: no variable has changed from that step on.
  StepReport report();
  StepReport run(const StepInput& input) {
    queue(input);
    return report();
  }

  // Stops updating a trained variable from the next step on, or resumes; it keeps its slots. Its gradient is still
  // computed, summed, and part of norms. The same on all ranks. Error(plan) for a path that is not trained.
  void set_frozen(std::string_view path, bool frozen);

  // To rehearse a fault: the gradient that this rank computes first in the next step has a NaN in this element, counted
  // row by row. Error(plan) for a path that is not trained, Error(usage) where it computes none or steps are recorded.
  void spoil_gradient(std::string_view path, int64_t element);

  // Collective: parameters become their running averages, where there are any, as at the end of training.
  void take_averages() { update_.take_averages(*reducer_, stream_); }

  // What the parts of the last step that this rank has computed came to, with StepOptions::record_parts.
  const std::vector<PartFacts>& part_facts() const { return record_->facts(); }

  // Variables that got no gradient in the last step, as indices of the plan.
  const std::vector<int32_t>& unused_variables() const { return tape_.unused_variables(); }

  // Tells the names of the model's sums, and what divides its losses, to a rank that has computed no part yet and does
  // not know them otherwise. Error(usage) where they are not the ones returned before.
  void learn_sums(const std::vector<std::string>& names, const LossDivisor& divisor);

 private:
  // One pass of a micro-batch forward and backward.
  struct Pass {
    const BatchPart& micro_batch;
    View gradients;  // an arena
    Tape::Destination kind;
    StepCells cells;  // its loss and sums are added there
    ConstView dropout_key;
    int64_t global_count;
    Tape::OnReady ready;
    ResultObserver* observer = nullptr;
  };
  Results run_pass(const Pass& pass);
  // Collective, on CPU ranks: finds the op that the first number which is not finite comes from.
  void trace_not_finite(const StepInput& input, const ConstView& dropout_key);
  void take(const StepInput& input, const ConstView& dropout_key);
  void compute_part(const BatchPart& part, const ConstView& dropout_key, int64_t global_count);
  void ready(int32_t variable);
  const PlannedVariable& trained(std::string_view path) const;
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
  std::optional<PartRecord> record_;
  Tape tape_;
  std::vector<std::string> sum_names_;  // as the model has returned them
  LossDivisor divisor_;                 // the same
  int64_t first_step_ = -1;             // the number of the first step that was queued
  int part_ = -1;                       // the part at hand
  View part_gradients_;                 // the arena that the part at hand fills
  std::string origin_;                  // of what was not finite in the last step, in words
  bool skipped_before_ = false, scales_loss_ = false;
  std::optional<std::pair<int32_t, int64_t>> spoiled_;  // variable and element of a gradient to come
  AbandonOnFailure abandon_;                            // last, so that it goes before memory does
};

}  // namespace lockstep
