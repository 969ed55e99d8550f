// SPDX-License-Identifier: Apache-2.0
// The optimizers of a run: one for all variables, or several that share them out in groups, and what a step does
// besides their rules. This is a value: copies are cheap and share what they own.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "optimizers/bounds.h"
#include "optimizers/optimizer.h"

namespace lockstep {

// A group of variables that are updated alike.
struct OptimizerGroup {
  std::shared_ptr<const Optimizer> optimizer;
  double rate_factor = 1;                         // factor of the run's learning rate,
  std::optional<double> own_rate = std::nullopt;  // or this rate, which no schedule changes
  std::optional<Bounds> bounds = std::nullopt;    // parameters are kept within these after updates and averages
  std::string text = {};                          // what made the group, for people and the run's description
};

// A running average of every trained parameter: average = m average + (1 - m) w after each update; the first is a copy
// (Keras' use_ema).
struct MovingAverage {
  double momentum = 0.99;       // m, in [0, 1]
  int64_t overwrite_every = 0;  // number of updates after which w = average; 0 is never
};

// A factor on the loss, by which gradients are divided again, so that small ones are not lost in narrow formats. It is
// halved whenever a gradient is not finite, which skips the step, and doubled after growth_steps steps without that
// (Keras' LossScaleOptimizer).
struct LossScaling {
  double initial = 32768;
  int64_t growth_steps = 2000;
};

class OptimizerSet {
 public:
  // One optimizer for all variables, which must outlive the set.
  OptimizerSet(const Optimizer& only);
  // Gives the variables of `group_of` to the group of that number, all others to group 0. Scalars of later groups get
  // names of their own. Error(usage) for settings out of range.
  OptimizerSet(std::vector<OptimizerGroup> groups, std::map<std::string, int32_t, std::less<>> group_of,
               std::optional<MovingAverage> average = std::nullopt, std::optional<LossScaling> scaling = std::nullopt);

  // Both are of group 0: the optimizer that the run is named after, and its rate.
  std::string_view name() const { return group(0).optimizer->name(); }
  double learning_rate() const { return group(0).optimizer->learning_rate(); }

  int32_t groups() const { return int32_t(state_->groups.size()); }
  const OptimizerGroup& group(int32_t number) const { return state_->groups[size_t(number)]; }
  int32_t group_of(std::string_view path) const;
  // The rate of a group when the run's is `rate`.
  double rate_of(int32_t group, double rate) const;

  // Every variable has as many slots as the optimizer with the most; the average is the last.
  std::span<const Slot> slots() const { return state_->slots; }
  // The same for the variables of one group. Slots that its optimizer lacks have the name of another's and are unused.
  Slot slot(int32_t group, int32_t number) const;
  const std::optional<MovingAverage>& average() const { return state_->average; }
  int32_t average_slot() const { return int32_t(state_->slots.size()) - 1; }

  // The state of all groups, one behind the other; loss scaling has the last two.
  std::span<const ScalarState> scalars() const { return state_->scalars; }
  int32_t first_scalar(int32_t group) const { return state_->first_scalar[size_t(group)]; }
  const std::optional<LossScaling>& scaling() const { return state_->scaling; }
  int32_t scale_scalar() const { return int32_t(state_->scalars.size()) - 2; }

  // Whether any optimizer works tensor by tensor.
  bool any_updates_by_tensor() const;

  // The bounds of a variable's group; null if there are none.
  const Bounds* bounds_of(std::string_view path) const;

  // Describes all that decides numbers.
  std::string description() const;

 private:
  struct State {
    std::vector<OptimizerGroup> groups;
    std::map<std::string, int32_t, std::less<>> group_of;
    std::optional<MovingAverage> average;
    std::optional<LossScaling> scaling;
    std::vector<Slot> slots;
    std::vector<std::string> scalar_names;
    std::vector<ScalarState> scalars;
    std::vector<int32_t> first_scalar;
  };
  static std::shared_ptr<const State> complete(State state);

  std::shared_ptr<const State> state_;
};

}  // namespace lockstep
