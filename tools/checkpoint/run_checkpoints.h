// SPDX-License-Identifier: Apache-2.0
// The checkpoints of `lockstep train`: which one it goes on from, when it writes one, and what it says about them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/checkpoint_writer.h"
#include "tools/checkpoint/checkpoint_options.h"
#include "tools/supervisor/supervised_run.h"

namespace lockstep {

struct ResumedRun {
  std::optional<LoadedCheckpoint> checkpoint;  // none: the run begins with its first step
  std::vector<int64_t> damaged;                // steps of newer ones in the run's folder, which cannot be read
  bool from_snapshot = false;                  // in memory, of a run under a supervisor
  int64_t first_step() const { return checkpoint ? checkpoint->manifest.run.step : 0; }
};

// Collective. The checkpoint to go on from, as --resume says; a job that its batch system has started again
// (SLURM_RESTART_COUNT) goes on from its own checkpoints also without, and so does a later life of a run under a
// supervisor, with its snapshots in the folder `snapshots`. Rank 0 warns of those that cannot be read.
// Error(usage) where a new run would write among the checkpoints of another one; Error(data) where there are
// checkpoints, and none can be read.
ResumedRun find_checkpoint(Communicator& ranks, const CheckpointRunOptions& options, Copies copies,
                           const SupervisedRun& supervised);

class RunCheckpoints {
 public:
  // Collective. What could not be read is put aside, so that the run can write these steps anew.
  RunCheckpoints(Communicator& ranks, const VariableStore& variables, Device device,
                 const CheckpointRunOptions& options, const ResumedRun& resumed,
                 FileOperations::Before before_operation);

  // Whether one is to be written after so many steps.
  bool is_due(int64_t step) const { return options_.every > 0 && step % options_.every == 0; }
  // The same number on all ranks: the step of the newest checkpoint, -1 for none.
  int64_t last_step() const { return std::max(writer_.last_step(), first_step_); }
  // What is to be expected of the next one.
  double expected_seconds() const;

  // Collective; as CheckpointWriter has them. A checkpoint that could not be written is a warning, or Error(file) on
  // all ranks, as the options say.
  void begin(const RunState& state, std::function<void()> before_commit);
  int news() const { return int(writer_.news()); }
  void hear(std::span<const int> news);
  void finish();
  // Writes one and waits for it, unless it is there already. Error(file) on all ranks where that is not possible.
  void save(const RunState& state, std::function<void()> before_commit);
  std::string path_of(int64_t step) const { return in_folder(options_.folder, checkpoint_name(step)); }

 private:
  void listen(bool must_not_fail);

  CheckpointRunOptions options_;
  bool first_;
  int64_t first_step_ = -1;  // of the checkpoint in this folder that the run goes on from
  double bytes_ = 0;         // of the state
  bool warned_ = false;
  CheckpointWriter writer_;
};

}  // namespace lockstep
