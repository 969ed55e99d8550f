// SPDX-License-Identifier: Apache-2.0
// Tables in memory of the device that kernels over the whole arena look up: which elements of the arena belong to which
// trained variable, and which group of the optimizer updates it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/device/memory.h"
#include "optimizers/optimizer_set.h"
#include "runtime/plan/plan.h"

namespace lockstep {

class StepTables {
 public:
  // The tables count as scratch: the plan knows variables and gradients only.
  StepTables(const Plan& plan, const OptimizerSet& optimizer, Pool& pool, Stream& stream);

  // The trained variables of the plan, in its order; kernels number them this way.
  std::span<const int32_t> variables() const { return variables_; }
  // The kernels' number of a trained variable of the plan.
  int32_t number_of(int32_t variable) const;
  // The group that updates a variable of the plan; none if it is not trained or is frozen for a while.
  std::optional<int32_t> group_of(int32_t variable) const;
  // Takes a trained variable of the plan out of its group, or puts it back, for all later work of `stream`.
  void set_frozen(Stream& stream, int32_t variable, bool frozen);
  // Whether variables belong to different groups.
  bool grouped() const { return grouped_; }
  // Changes when groups do, and with them the contents of a recorded step.
  int generation() const { return generation_; }

  // What update kernels look up for elements from `begin` on, where a variable begins or a range is cut.
  GranuleMap granule_map(int32_t group, int64_t begin) const;
  // Factors of the variables' gradients, by number; 1 until somebody writes them.
  float* factors() const { return static_cast<float*>(factors_.data()); }

 private:
  int32_t groups_of_optimizer_;
  std::vector<int32_t> variables_;  // numbers in the plan
  std::vector<int32_t> numbers_by_variable_;
  std::vector<uint32_t> own_group_;  // by number, as the optimizer says
  std::vector<uint32_t> group_of_;   // the contents of groups_
  bool grouped_;
  int generation_ = 0;
  Buffer variable_of_, factors_, groups_, numbers_;
};

}  // namespace lockstep
