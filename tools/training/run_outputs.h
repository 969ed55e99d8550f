// SPDX-License-Identifier: Apache-2.0
// The files that rank 0 writes while a run goes on: ledger and metrics.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "runtime/checkpoint/manifest.h"
#include "runtime/files/line_file.h"
#include "tools/training/check_in.h"
#include "tools/training/progress.h"
#include "tools/training/tasks/batch_source.h"
#include "tools/training/tasks/training_task.h"
#include "tools/training/train_options.h"

namespace lockstep {

// A text of a model as JSON, in which bytes that are no UTF-8 are replaced.
std::string json_text(const std::string& text);

// How long a file that is a pipe may keep its writer waiting: other ranks must not lose patience before.
std::chrono::milliseconds patience_of(const TrainOptions& options);

class RunOutputs {
 public:
  // Opens them, when nothing can be refused any more. A run that goes on from `resumed` cuts them where that run had
  // come to and goes on there, so that they end as if it had never stopped; `changed` says that it is another run from
  // there on, which gets a header of its own in the ledger. Error(data) for files that are not those of that run.
  RunOutputs(const TrainOptions& options, const std::string& header, const RunState* resumed, bool changed);

  bool want_steps() const { return ledger_ || metrics_; }
  // `times`: of each rank, as it last told the others.
  void write(const StepReport& report, const StepBatch& batch, const ProgressWords& words,
             const VariableStore& variables, double seconds, std::span<const RankTimes> times);
  void write_sample(const std::string& text, int64_t step);
  // `step`: after so many steps; none at the end.
  void write_score(const Score& score, std::optional<int64_t> step);

  std::optional<LinePosition> ledger_position() const { return ledger_ ? ledger_->position() : std::nullopt; }
  std::optional<LinePosition> metrics_position() const { return metrics_ ? metrics_->position() : std::nullopt; }
  // Has them on disk. Another thread may write meanwhile.
  void sync() const;

 private:
  std::optional<LineFile> ledger_, metrics_;
};

}  // namespace lockstep
