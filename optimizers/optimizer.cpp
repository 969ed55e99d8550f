// SPDX-License-Identifier: Apache-2.0
#include "optimizers/optimizer.h"

#include <limits>

#include "kernels/device/check.h"

namespace lockstep {

int64_t Optimizer::bytes_per_element() const {
  // Parameter, gradient and slots are each read and written; the gradient is written with zero.
  int64_t bytes = 2 * size_of(DType::f32) + 2 * size_of(DType::f32);
  for (const Slot& slot : slots()) bytes += 2 * size_of(slot.dtype);
  return bytes;
}

void Optimizer::check_prepare(const Stream& stream, const StepState& state, const LearningRates& rates) const {
  check(scalars().empty() || state.scalars != nullptr, ErrorCode::internal, [&] {
    std::string names;
    for (const ScalarState& scalar : scalars()) names += str(names.empty() ? "" : ", ", scalar.name);
    return str(name(), ": expected the values of ", scalars().size(), " scalars (", names, "), got none");
  });
  if (stream.device().kind != DeviceKind::cpu || stream.rehearses()) return;
  // If another optimizer has counted, a step that was skipped may still be the first.
  const int64_t before = *state.iteration, step = before + (rates.counted ? 0 : 1);
  check(before >= 0, ErrorCode::internal,
        [&] { return str(name(), ": expected a step from 1 (the iteration counter plus one), got ", step); });
  const bool scheduled = rates.values != nullptr && !rates.counted;
  const double of_run = scheduled ? rates.values[before - rates.first] : *state.learning_rate;
  const double rate = rates.own >= 0 ? rates.own : of_run * rates.factor;
  check(rate >= 0 && rate <= double(std::numeric_limits<float>::max()), ErrorCode::numbers, [&] {
    return str(name(), ": expected a learning rate that is finite and not negative, got ", rate, " at step ", step,
               "; look at the learning-rate schedule");
  });
}

void Optimizer::check_update(const UpdateOperands& operands) const {
  const View& param = operands.param;
  const std::span<const View> slots = operands.slots;
  check(slots.size() == this->slots().size(), ErrorCode::internal,
        [&] { return str(name(), ": expected ", this->slots().size(), " slots, got ", slots.size()); });
  const auto check_operand = [&](const View& view, std::string_view what, std::string_view slot) {
    check(view.dtype == DType::f32 && view.size() == param.size(), ErrorCode::internal, [&] {
      return str(name(), ": expected ", what, slot, " to be ", param.size(),
                 " elements of f32 like the parameter, got ", view.size(), " of ", to_string(view.dtype));
    });
  };
  if (updates_by_tensor() || param.dtype != DType::bf16) check_operand(param, "the parameter", "");
  check_operand(operands.grad, "the gradient", "");
  for (size_t i = 0; i < slots.size(); ++i) check_operand(slots[i], "slot ", this->slots()[i].name);
  check(!updates_by_tensor() || (operands.working_copy.data == nullptr && operands.granules.groups == nullptr),
        ErrorCode::internal,
        [&] { return str(name(), " updates one tensor at a time, without a working copy and without groups"); });
}

}  // namespace lockstep
