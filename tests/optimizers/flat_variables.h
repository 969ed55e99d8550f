// SPDX-License-Identifier: Apache-2.0
// A flat parameter in host memory with gradient and slots, as the runtime would hold it.
#pragma once

#include <vector>

#include "optimizers/optimizer.h"

namespace lockstep {

struct FlatVariables {
  std::vector<float> param, grad;
  std::vector<std::vector<float>> slots;

  FlatVariables(const Optimizer& optimizer, std::vector<float> initial)
      : param(std::move(initial)), grad(param.size()) {
    for (const Slot& slot : optimizer.slots()) slots.emplace_back(param.size(), slot.initial);
  }

  // Updates elements [begin, end).
  void update_range(const Optimizer& optimizer, Stream& stream, int64_t step, double learning_rate,
                    const StepScalars& scalars, int64_t begin, int64_t end) {
    const auto range = [&](std::vector<float>& x) {
      return View{x.data() + begin, DType::f32, DeviceKind::cpu, Shape{end - begin}};
    };
    std::vector<View> views;
    for (std::vector<float>& slot : slots) views.push_back(range(slot));
    optimizer.update(stream, step, learning_rate, &scalars, range(param), range(grad), views);
  }

  void update(const Optimizer& optimizer, int64_t step, const StepScalars& scalars = {}) {
    Stream stream = Stream::cpu();
    update_range(optimizer, stream, step, optimizer.learning_rate(), scalars, 0, int64_t(param.size()));
  }
};

}  // namespace lockstep
