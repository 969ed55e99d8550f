// SPDX-License-Identifier: Apache-2.0
// A learning-rate schedule: a value made from a short text that gives the rate at a step counter.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "optimizers/schedules/schedule_formulas.h"

namespace lockstep {

using ScheduleFormula =
    std::variant<ConstantRate, ExponentialDecay, PiecewiseConstant, PolynomialDecay, InverseTimeDecay, CosineDecay,
                 CosineRestarts, LinearWarmup, WarmupStableDecay, OneCycle>;

class Schedule {
 public:
  Schedule(ScheduleFormula formula, std::string text) : formula_(std::move(formula)), text_(std::move(text)) {}

  // The rate of the step that begins when `counter` steps are committed; the first step begins at 0.
  double at(int64_t counter) const;

  // Steps until the schedule is through, or through its first period; 0 where it has neither.
  int64_t length() const;

  // The text has every parameter, given or default, so that it says the whole schedule and parses to an equal one.
  const std::string& text() const { return text_; }

 private:
  ScheduleFormula formula_;
  std::string text_;
};

// Names known to make_schedule, in the order in which users see them.
std::vector<std::string_view> schedule_names();

// `text` is like "cosine(steps=1000, alpha=0.1)"; docs/optimizers.md lists names and parameters. `learning_rate` is the
// optimizer's; a parameter learning_rate in the text replaces it. A parameter with one of Keras' names (decay_steps,
// ...) selects Keras' definition and default values. Throws Error(usage) for text it does not understand, unknown names
// (with the nearest known one), and values that are missing, out of range, NaN or infinite.
Schedule make_schedule(std::string_view text, double learning_rate);

}  // namespace lockstep
