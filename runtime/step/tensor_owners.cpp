// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/tensor_owners.h"

#include <algorithm>
#include <functional>

namespace lockstep {
namespace {

const Optimizer& optimizer_of(const Plan& plan, const OptimizerSet& optimizer, int32_t variable) {
  return *optimizer.group(optimizer.group_of(plan.variables[size_t(variable)].path)).optimizer;
}

}  // namespace

std::vector<int32_t> tensors_of_rank(const Plan& plan, const OptimizerSet& optimizer, const Place& place) {
  const bool shares = plan.settings.copies == Copies::per_node;
  const int local_rank = shares ? place.local_rank : 0, local_size = shares ? place.local_size : 1;
  std::vector<int32_t> tensors, mine;
  for (size_t v = 0; v < plan.variables.size(); ++v)
    if (plan.variables[v].in_gradient_sync && optimizer_of(plan, optimizer, int32_t(v)).updates_by_tensor())
      tensors.push_back(int32_t(v));
  const auto elements = [&](int32_t v) { return plan.variables[size_t(v)].shape.size(); };
  std::ranges::stable_sort(tensors, std::greater<>(), elements);
  std::vector<int64_t> load(static_cast<size_t>(local_size));
  for (const int32_t v : tensors) {
    const auto least = std::ranges::min_element(load);
    *least += elements(v);
    if (least - load.begin() == local_rank) mine.push_back(v);
  }
  return mine;
}

int64_t rehearse_updates(const Plan& plan, const OptimizerSet& optimizer, const std::vector<int32_t>& tensors,
                         int threads) {
  Stream stream = Stream::rehearsal(threads);
  for (const int32_t v : tensors) {
    const View nothing{nullptr, DType::f32, DeviceKind::cpu, plan.variables[size_t(v)].shape};
    const Optimizer& each = optimizer_of(plan, optimizer, v);
    const std::vector<View> slots(each.slots().size(), nothing);
    each.update(stream, StepState{}, {.param = nothing, .grad = nothing, .slots = slots});
  }
  return stream.scratch_bytes();
}

}  // namespace lockstep
