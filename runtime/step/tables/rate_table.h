// SPDX-License-Identifier: Apache-2.0
// The learning rates of the steps to come, in memory of the device. A step's counter says which of them it takes, and
// the host does not know the counter of a GPU, because skipped steps do not count.
#pragma once

#include <cstdint>

#include "kernels/device/memory.h"
#include "optimizers/optimizer.h"
#include "optimizers/schedules/schedule.h"
#include "runtime/state/variable_store.h"

namespace lockstep {

class RateTable {
 public:
  // Without a schedule the variable keeps its rate.
  RateTable(const Schedule* schedule, const VariableStore& variables, Pool& pool, Stream& stream);

  // Called before each step. On the CPU it computes the step's rate; on a GPU it refills the table after every 65,536
  // steps, and waits to see the counter for that.
  void cover_next_step();
  LearningRates rates() const;
  // Changes when the table is refilled.
  int generation() const { return generation_; }

 private:
  const Schedule* schedule_;
  const VariableStore& variables_;
  Stream& stream_;
  int64_t count_;  // rates that the table holds
  Buffer table_;
  int64_t first_ = 0, left_ = 0;  // the counter when it was filled; the steps that it still covers
  int generation_ = 0;
};

}  // namespace lockstep
