// SPDX-License-Identifier: Apache-2.0
// Makes an Optimizer of a rule: a struct that declares slots, computes its constants once a step and updates one
// element (sgd.h, adam.h).
#pragma once

#include <cmath>
#include <utility>

#include "kernels/device/check.h"
#include "kernels/launch.h"
#include "optimizers/optimizer.h"
#include "optimizers/update.h"

namespace lockstep {

// What every optimizer has besides its rule.
struct OptimizerSettings {
  std::string_view name;
  double learning_rate = 0;
  double weight_decay = 0;
  std::vector<Hyperparameter> hyperparameters;  // all of them, these two included
};

template <class Rule>
class RuleOptimizer final : public Optimizer {
 public:
  RuleOptimizer(Rule rule, OptimizerSettings settings) : rule_(rule), settings_(std::move(settings)) {}

  std::string_view name() const override { return settings_.name; }
  std::span<const Slot> slots() const override { return Rule::slots; }
  std::vector<Hyperparameter> hyperparameters() const override { return settings_.hyperparameters; }
  double learning_rate() const override { return settings_.learning_rate; }

  void update(Stream& stream, int64_t step, double learning_rate, const StepScalars* scalars, View param, View grad,
              std::span<const View> slots) const override {
    check_update(step, learning_rate, param, grad, slots);
    if (param.size() == 0) return;
    Update<Rule> kernel{.rule = rule_.at(step, learning_rate),
                        .decay = float(learning_rate * settings_.weight_decay),
                        .scalars = scalars,
                        .param = param,
                        .grad = grad,
                        .slots = {}};
    for (size_t i = 0; i < kernel.slots.size(); ++i) kernel.slots[i] = slots[i];
    launch(stream, kernel);
  }

 private:
  Rule rule_;
  OptimizerSettings settings_;
};

}  // namespace lockstep
