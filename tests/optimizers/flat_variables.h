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

  // The same for a whole tensor.
  void update_tensor(const Optimizer& optimizer, Stream& stream, int64_t step, double learning_rate,
                     StepScalars factors) {
    const auto tensor = [&](std::vector<float>& x) { return View{x.data(), DType::f32, DeviceKind::cpu, shape}; };
    std::vector<View> views;
    for (std::vector<float>& slot : slots) views.push_back(tensor(slot));
    std::vector<double> constants(size_t(optimizer.constants_bytes() / 8 + 1));
    int64_t iteration = step - 1;
    const StepState state{.iteration = &iteration,
                          .learning_rate = &learning_rate,
                          .scalars = scalars.data(),
                          .decision = &factors,
                          .constants = constants.data()};
    // With numbers that a rule must not rely on.
    const size_t bytes = size_t(optimizer.tensor_scratch_bytes(shape));
    std::vector<double> scratch(bytes / sizeof(double) + 32, std::numeric_limits<double>::quiet_NaN());
    optimizer.prepare(stream, state, {}, nullptr);
    optimizer.update_tensor(stream, state, {.param = tensor(param), .grad = tensor(grad), .slots = views},
                            reinterpret_cast<std::byte*>(scratch.data()));
  }

  // One whole step at the optimizer's own rate.
  void update(const Optimizer& optimizer, int64_t step, const StepScalars& factors = {}) {
    Stream stream = Stream::cpu();
    if (optimizer.whole_tensors()) return update_tensor(optimizer, stream, step, optimizer.learning_rate(), factors);
    if (!factors.skip) optimizer.advance(step, optimizer.learning_rate(), scalars);
    update_range(optimizer, stream, step, optimizer.learning_rate(), factors, 0, int64_t(param.size()));
  }
};

}  // namespace lockstep
