// SPDX-License-Identifier: Apache-2.0
// A parameter in host memory with gradient, slots and scalars, as the runtime would hold it.
#pragma once

#include <limits>
#include <vector>

#include "optimizers/optimizer.h"

namespace lockstep {

struct FlatVariables {
  std::vector<float> param, grad;
  std::vector<std::vector<float>> slots;
  std::vector<double> scalars;
  Shape shape;

  FlatVariables(const Optimizer& optimizer, std::vector<float> initial)
      : FlatVariables(optimizer, initial, Shape{int64_t(initial.size())}) {}
  FlatVariables(const Optimizer& optimizer, std::vector<float> initial, const Shape& of)
      : param(std::move(initial)), grad(param.size()), shape(of) {
    for (const Slot& slot : optimizer.slots())
      slots.push_back(slot.starts_as_parameter ? param : std::vector<float>(param.size(), slot.initial));
    for (const ScalarState& scalar : optimizer.scalars()) scalars.push_back(scalar.initial);
  }

  // Begins a step from 1: scalars move on, constants are computed, unless it is skipped.
  void prepare(const Optimizer& optimizer, Stream& stream, int64_t step, double learning_rate,
               const StepScalars& factors = {}) {
    decision = factors;
    constants.resize(size_t(optimizer.constants_bytes() / 8 + 1));
    int64_t iteration = step - 1;
    StepState begun = state();
    begun.iteration = &iteration;
    begun.learning_rate = &learning_rate;
    optimizer.prepare(stream, begun, {}, nullptr);
  }

  // Updates elements [begin, end) in a step that has begun.
  void update_range(const Optimizer& optimizer, Stream& stream, int64_t begin, int64_t end) {
    const auto range = [&](std::vector<float>& x) {
      return View{x.data() + begin, DType::f32, DeviceKind::cpu, Shape{end - begin}};
    };
    std::vector<View> views;
    for (std::vector<float>& slot : slots) views.push_back(range(slot));
    optimizer.update(stream, state(), {.param = range(param), .grad = range(grad), .slots = views});
  }

  // The same for a whole tensor.
  void update_tensor(const Optimizer& optimizer, Stream& stream, const GranuleMap& granules = {}) {
    const auto tensor = [&](std::vector<float>& x) { return View{x.data(), DType::f32, DeviceKind::cpu, shape}; };
    std::vector<View> views;
    for (std::vector<float>& slot : slots) views.push_back(tensor(slot));
    // With numbers that a rule must not rely on.
    const auto bytes = size_t(optimizer.scratch_bytes(shape));
    std::vector<double> scratch(bytes / sizeof(double) + 32, std::numeric_limits<double>::quiet_NaN());
    optimizer.update(stream, state(),
                     {.param = tensor(param),
                      .grad = tensor(grad),
                      .slots = views,
                      .granules = granules,
                      .scratch = reinterpret_cast<std::byte*>(scratch.data())});
  }

  // One whole step at the optimizer's own rate.
  void update(const Optimizer& optimizer, int64_t step, const StepScalars& factors = {}) {
    Stream stream = Stream::cpu();
    prepare(optimizer, stream, step, optimizer.learning_rate(), factors);
    if (optimizer.updates_by_tensor()) return update_tensor(optimizer, stream);
    update_range(optimizer, stream, 0, int64_t(param.size()));
  }

  StepScalars decision;
  std::vector<double> constants;

 private:
  StepState state() {
    return {.iteration = nullptr,
            .learning_rate = nullptr,
            .scalars = scalars.empty() ? nullptr : scalars.data(),
            .decision = &decision,
            .constants = constants.data()};
  }
};

}  // namespace lockstep
