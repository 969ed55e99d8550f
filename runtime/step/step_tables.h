// SPDX-License-Identifier: Apache-2.0
// What a step on a GPU keeps there besides variables and gradients: cells of the leaves, sums of squares, the decision,
// and tables that say which elements belong to which variable.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "collectives/device/device_communicator.h"
#include "kernels/device/memory.h"
#include "kernels/device/transfer.h"
#include "optimizers/optimizer_set.h"
#include "optimizers/schedules/schedule.h"
#include "optimizers/step_verdict.h"
#include "runtime/plan/plan.h"
#include "runtime/state/variable_store.h"
#include "runtime/step/clip.h"

namespace lockstep {

class StepTables {
 public:
  // `cells`: f64 numbers that ranks exchange (verdict_cells()). Counted as scratch: the plan knows variables and
  // gradients only.
  StepTables(const Plan& plan, const OptimizerSet& optimizer, int64_t cells, Pool& pool, Stream& stream);

  View cells() const { return cells_.view(DType::f64, Shape{count_}); }
  // Writes the sums of squares of `gradients` [arena elements]; queued on `stream`.
  void measure(Stream& stream, const View& gradients) const;
  // What prepare() decides by after measure().
  StepVerdict verdict(int leaves, int64_t global_count, const ClipOptions& clip) const;
  // What prepare() and update() of one group share.
  StepState state(const VariableStore& variables, int32_t group, uint64_t seed) const;
  // Of the elements from `begin` on, which a variable begins with: where each variable is clipped by its own norm,
  // variables have groups, or parameters are narrow.
  GranuleMap granule_map(int32_t group, int64_t begin) const;
  // Whether granule_map() say anything about groups.
  bool grouped() const { return grouped_; }
  // A variable of the plan belongs to this group, or to none, from what `stream` is given next on.
  void set_group(Stream& stream, int32_t variable, std::optional<int32_t> group);
  // Changes when groups do.
  int generation() const { return generation_; }
  const StepScalars* decision() const { return static_cast<const StepScalars*>(decision_.data()); }

  // Queues a copy of the outcome to the host; outcome() has it when `stream` is through.
  void fetch_outcome(Stream& stream);
  const StepOutcome& outcome() const { return *static_cast<const StepOutcome*>(fetched_.data()); }
  // The plan's index of a variable that an outcome names.
  int32_t variable(int32_t in_sync) const { return variables_[size_t(in_sync)]; }

 private:
  float* factors() const { return static_cast<float*>(factors_.data()); }

  int64_t count_, chunks_;
  std::vector<int32_t> variables_;  // of the plan that are in gradient sync, in order
  Buffer cells_, squares_, begins_, ends_, first_chunk_, variable_of_, factors_, groups_, numbers_, decision_, outcome_;
  std::vector<uint32_t> group_of_;  // what groups_ holds
  bool grouped_ = false;
  int generation_ = 0;
  std::vector<Buffer> constants_;      // by group
  std::vector<int32_t> first_scalar_;  // by group
  PinnedBuffer fetched_;
};

// Learning rates of the steps to come, on the device: which of them a step takes its counter says, and the host does
// not know the counter, because skipped steps do not count.
class RateTable {
 public:
  // Without a schedule the variable's rate stays.
  RateTable(const Schedule* schedule, const VariableStore& variables, Pool& pool, Stream& stream);

  // Called before each step. Every kRates steps it waits for the device, to see the counter, and fills the table anew.
  void cover_next_step();
  LearningRates rates() const;
  // Changes when the table was filled anew.
  int generation() const { return generation_; }

 private:
  static constexpr int64_t kRates = 1 << 16;
  const Schedule* schedule_;
  const VariableStore& variables_;
  Stream& stream_;
  Buffer table_;
  int64_t first_ = 0, left_ = 0;  // the counter when it was filled; steps that it still covers
  int generation_ = 0;
};

}  // namespace lockstep
