// SPDX-License-Identifier: Apache-2.0
// A flat parameter in host memory with gradient, slots and scalars, as the runtime would hold it.
#pragma once

#include <vector>

#include "optimizers/optimizer.h"

namespace lockstep {

struct FlatVariables {
  std::vector<float> param, grad;
  std::vector<std::vector<float>> slots;
  std::vector<double> scalars;

  FlatVariables(const Optimizer& optimizer, std::vector<float> initial)
      : param(std::move(initial)), grad(param.size()) {
    for (const Slot& slot : optimizer.slots())
      slots.push_back(slot.starts_as_parameter ? param : std::vector<float>(param.size(), slot.initial));
    for (const ScalarState& scalar : optimizer.scalars()) scalars.push_back(scalar.initial);
  }

  // Updates elements [begin, end). The step's advance() has been called.
  void update_range(const Optimizer& optimizer, Stream& stream, int64_t step, double learning_rate,
                    const StepScalars& factors, int64_t begin, int64_t end) {
    const auto range = [&](std::vector<float>& x) {
      return View{x.data() + begin, DType::f32, DeviceKind::cpu, Shape{end - begin}};
    };
    std::vector<View> views;
    for (std::vector<float>& slot : slots) views.push_back(range(slot));
    optimizer.update(stream, step, learning_rate, &factors, range(param), range(grad), views, scalars);
  }

  // One whole step at the optimizer's own rate.
  void update(const Optimizer& optimizer, int64_t step, const StepScalars& factors = {}) {
    Stream stream = Stream::cpu();
    if (!factors.skip) optimizer.advance(step, optimizer.learning_rate(), scalars);
    update_range(optimizer, stream, step, optimizer.learning_rate(), factors, 0, int64_t(param.size()));
  }
};

}  // namespace lockstep
