// SPDX-License-Identifier: Apache-2.0
// The loop of steps of `lockstep train`, with all that goes on between them: outputs, progress, what ranks tell each
// other, judging, checkpoints, and the end that somebody asks for.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "runtime/checkpoint/step_snapshot.h"
#include "tools/checkpoint/run_changes.h"
#include "tools/checkpoint/run_checkpoints.h"
#include "tools/record/run_record.h"
#include "tools/supervisor/supervised_run.h"
#include "tools/training/check_in.h"
#include "tools/training/loop/course.h"
#include "tools/training/loop/profiled_steps.h"
#include "tools/training/progress.h"
#include "tools/training/run_outputs.h"
#include "tools/training/tasks/training_task.h"
#include "tools/training/train.h"
#include "tools/training/training_run.h"

namespace lockstep {

// The reports of steps, asked for at most once per step: on a GPU asking means waiting. `first` tells of skipped steps.
class Reports {
 public:
  Reports(TrainStep& step, bool first, bool every_step, int64_t first_step)
      : step_(step), first_(first), every_step_(every_step), number_(first_step) {}
  bool every_step() const { return every_step_; }
  const StepReport& get() {
    if (known_) return report_;
    const int64_t skipped = report_.skipped_sum;
    report_ = step_.report();
    known_ = true;
    if (first_ && report_.skipped_sum > skipped) warn(report_.skipped_sum - skipped);
    return report_;
  }
  void step_is_over() {
    known_ = false;
    ++number_;
  }

 private:
  void warn(int64_t news) const;

  TrainStep& step_;
  bool first_, every_step_;
  StepReport report_;
  bool known_ = false;
  int64_t number_;
};

class TrainingLoop {
 public:
  struct Parts {
    const TrainOptions& options;
    Communicator& ranks;
    TrainingRun& run;
    const TrainingTask& task;
    Course course;
    RunConfiguration configuration;
    RunOutputs* outputs;          // rank 0's
    RunRecord* record;            // null: none is kept
    RunCheckpoints* checkpoints;  // null: none are written
    StepSnapshot* snapshots;      // null: none are taken
    SupervisedRun& supervised;
    const FaultInjection& faults;
    const StopRequest& asked;
    RunDevice device;
  };
  // Collective. `to_judge`: the run that is resumed was stopped before it had judged the model.
  TrainingLoop(const Parts& parts, bool to_judge);
  TrainResult run();
  // Called by all ranks before run(), where there is nothing yet that the run could go on from.
  void take_snapshot() { parts_.snapshots->take(state()); }

 private:
  int signal() const { return check_in_.signal() != 0 ? check_in_.signal() : judging_ ? judging_->signal() : 0; }
  void take_step();
  void sample();
  bool is_to_be_judged() const;
  std::optional<Score> score();
  void judge();
  RunState state() const;
  std::function<void()> sync_outputs() const;
  void begin_checkpoint();
  TrainResult stop();
  std::string save_what_is_there(int signal);
  TrainResult finish();

  Parts parts_;
  bool first_;
  ProgressWords words_;
  std::unique_ptr<BatchSource> batches_;
  Reports reports_;
  Progress progress_;
  CheckIn check_in_;
  std::optional<CheckIn> judging_;  // the same while the model is judged
  ProfiledSteps profiled_;
  int64_t step_;  // the next one
  bool scored_;
};

}  // namespace lockstep
