// SPDX-License-Identifier: Apache-2.0
// Makes an Optimizer of a rule: a struct that declares slots and scalars, computes its constants once a step and
// updates one element (sgd.h, adam.h; nadam.h has a scalar) or one tensor (tensor_rule.h).
#pragma once

#include <utility>

#include "kernels/launch.h"
#include "optimizers/optimizer.h"
#include "optimizers/update_kernels.h"

namespace lockstep {

// What every optimizer has besides its rule.
struct OptimizerSettings {
  std::string_view name;
  double learning_rate = 0;
  double weight_decay = 0;
  bool coupled_weight_decay = false;            // weight decay is part of the gradient
  std::vector<Hyperparameter> hyperparameters;  // all of them, these included
};

// A rule whose step for one element depends on the whole tensor.
template <class Rule>
concept TensorRule = requires(const Rule& rule, const Shape& shape) {
  rule.scratch_bytes(shape);
};

template <class Rule>
class RuleOptimizer final : public Optimizer {
 public:
  RuleOptimizer(Rule rule, OptimizerSettings settings) : rule_(rule), settings_(std::move(settings)) {}

  std::string_view name() const override { return settings_.name; }
  std::span<const Slot> slots() const override { return rule_.slots; }
  std::vector<Hyperparameter> hyperparameters() const override { return settings_.hyperparameters; }
  double learning_rate() const override { return settings_.learning_rate; }

  std::span<const ScalarState> scalars() const override {
    if constexpr (HasScalars<Rule>) return Rule::scalars;
    return {};
  }

  bool updates_by_tensor() const override { return TensorRule<Rule>; }

  int64_t scratch_bytes([[maybe_unused]] const Shape& shape) const override {
    if constexpr (TensorRule<Rule>) return rule_.scratch_bytes(shape);
    return 0;
  }

  int64_t constants_bytes() const override { return sizeof(RuleConstants<Rule>); }

  void prepare(Stream& stream, const StepState& state, const LearningRates& rates,
               const StepVerdict* verdict) const override {
    check_prepare(stream, state, rates);
    launch(stream, Prepare<Rule>{.rule = rule_,
                                 .weight_decay = settings_.weight_decay,
                                 .coupled_weight_decay = settings_.coupled_weight_decay,
                                 .state = state,
                                 .rates = rates,
                                 .decides = verdict != nullptr,
                                 .verdict = verdict ? *verdict : StepVerdict{}});
  }

  void update(Stream& stream, const StepState& state, const UpdateOperands& operands) const override {
    check_update(operands);
    if (operands.param.size() == 0) return;
    PreparedUpdate<Rule> update{.constants = static_cast<const RuleConstants<Rule>*>(state.constants),
                                .decision = state.decision,
                                .param = operands.param,
                                .grad = operands.grad,
                                .slots = {},
                                .working_copy = operands.working_copy,
                                .granules = operands.granules,
                                .scratch = operands.scratch};
    for (size_t i = 0; i < update.slots.size(); ++i) update.slots[i] = operands.slots[i];
    if constexpr (TensorRule<Rule>) {
      rule_.update(stream, update);
    } else {
      launch(stream, update);
    }
  }

 private:
  Rule rule_;
  OptimizerSettings settings_;
};

}  // namespace lockstep
