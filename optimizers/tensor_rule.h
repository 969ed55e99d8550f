// SPDX-License-Identifier: Apache-2.0
// Rules whose step for one element depends on the whole tensor (lamb.h, adafactor.h, muon.h): what their kernels share,
// and an Optimizer made of such a rule.
//
// Sums over a tensor are taken in double by chunks from its first element on, and chunks are added in one order, so
// bits depend on values and shape alone.
#pragma once

#include <array>
#include <cmath>
#include <utility>

#include "kernels/chunk_squares.h"
#include "kernels/device/check.h"
#include "kernels/host_device.h"
#include "kernels/launch.h"
#include "optimizers/prepared_update.h"
#include "optimizers/rule_optimizer.h"

namespace lockstep {

// One tensor of a step. Pointers and views are to memory of the device.
template <class Rule>
struct TensorStep {
  const RuleConstants<Rule>* constants;
  const StepScalars* decision;
  const float* factor;  // of the gradient; null: 1
  View param, grad;
  std::array<View, kSlots<Rule>> slots;
  std::byte* scratch;
};

// What a kernel does to the elements of one tensor before its rule.
struct TensorGradient {
  const StepScalars* decision;
  const float* factor;
  float decay, l2;

  // The gradient unscaled and clipped, with coupled weight decay; the parameter with decoupled weight decay.
  HOST_DEVICE float operator()(float& param, float grad) const {
    const float limit = decision->clip_value > 0 ? decision->clip_value : INFINITY;
    const float clipped = grad < -limit ? -limit : (grad > limit ? limit : grad);
    const float scaled = clipped * decision->grad_scale;
    param -= decay * param;
    const float g = factor ? scaled * *factor : scaled;
    return l2 == 0 ? g : g + l2 * param;
  }
};

// Chunks of a tensor, and the sums over them: pairs of doubles.
struct TensorSums {
  double* sums;  // [chunks][2]
  int64_t elements;
  HOST_DEVICE int64_t chunks() const { return (elements + kSquareChunk - 1) / kSquareChunk; }
  HOST_DEVICE int64_t begin(int64_t chunk) const { return chunk * kSquareChunk; }
  HOST_DEVICE int64_t size(int64_t chunk) const {
    return elements - begin(chunk) < kSquareChunk ? elements - begin(chunk) : kSquareChunk;
  }
  template <class Team>
  HOST_DEVICE double total(const Team& team, int which) const {
    return team.template sum<double>(chunks(), [&](int64_t c) { return sums[2 * c + which]; });
  }
};
inline int64_t tensor_sums_bytes(int64_t elements) {
  return scratch_piece(2 * int64_t(sizeof(double)) * ((elements + kSquareChunk - 1) / kSquareChunk));
}

template <class Rule>
class TensorOptimizer final : public Optimizer {
 public:
  TensorOptimizer(Rule rule, OptimizerSettings settings) : rule_(rule), settings_(std::move(settings)) {}

  std::string_view name() const override { return settings_.name; }
  std::span<const Slot> slots() const override { return rule_.slots; }
  std::vector<Hyperparameter> hyperparameters() const override { return settings_.hyperparameters; }
  double learning_rate() const override { return settings_.learning_rate; }
  std::span<const ScalarState> scalars() const override { return {}; }
  bool updates_by_tensor() const override { return true; }
  int64_t constants_bytes() const override { return sizeof(RuleConstants<Rule>); }

  void update(Stream&, const StepState&, const UpdateOperands&) const override { fail_ranges(); }

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

  int64_t tensor_scratch_bytes(const Shape& shape) const override { return rule_.scratch_bytes(shape); }

  void update_tensor(Stream& stream, const StepState& state, const TensorOperands& operands,
                     std::byte* scratch) const override {
    check_ranges(operands.param, operands.grad, operands.slots);
    if (operands.param.size() == 0) return;
    TensorStep<Rule> step{.constants = static_cast<const RuleConstants<Rule>*>(state.constants),
                          .decision = state.decision,
                          .factor = operands.factor,
                          .param = operands.param,
                          .grad = operands.grad,
                          .slots = {},
                          .scratch = scratch};
    for (size_t i = 0; i < step.slots.size(); ++i) step.slots[i] = operands.slots[i];
    rule_.update(stream, step);
  }

 private:
  [[noreturn]] void fail_ranges() const {
    fail(ErrorCode::internal, str(name(), " updates whole tensors and was given a range; use update_tensor()"));
  }

  Rule rule_;
  OptimizerSettings settings_;
};

}  // namespace lockstep
