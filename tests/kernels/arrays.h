// SPDX-License-Identifier: Apache-2.0
// Arrays for kernel tests: host memory with a shape, filled with seeded numbers.
#pragma once

#include <random>
#include <vector>

#include "kernels/device/view.h"

namespace lockstep::testing_support {

struct Array {
  Shape shape;
  std::vector<float> values;

  explicit Array(const Shape& shape, float fill = 0) : shape(shape), values(size_t(shape.size()), fill) {}
  Array(const Shape& shape, std::vector<float> values) : shape(shape), values(std::move(values)) {}
  // Reproducible normal numbers.
  static Array random(const Shape& shape, uint32_t seed) {
    Array array(shape);
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    for (float& x : array.values) x = normal(engine);
    return array;
  }

  operator View() { return {values.data(), DType::f32, DeviceKind::cpu, shape}; }
  operator ConstView() const { return {values.data(), DType::f32, DeviceKind::cpu, shape}; }
  float operator[](int64_t i) const { return values[size_t(i)]; }
  float& operator[](int64_t i) { return values[size_t(i)]; }
};

}  // namespace lockstep::testing_support
