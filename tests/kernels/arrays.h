// SPDX-License-Identifier: Apache-2.0
// Arrays for kernel tests: host memory with a shape, filled with seeded numbers.
#pragma once

#include <random>
#include <vector>

#include "kernels/device/memory.h"
#include "kernels/device/transfer.h"

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

// A copy of an array on the stream's device.
class OnDevice {
 public:
  OnDevice(Stream& stream, Pool& pool, const Array& array)
      : stream_(stream), memory_(pool, ConstView(array).bytes(), Purpose::data), shape_(array.shape) {
    copy(stream, *this, array);
    stream.synchronize();
  }
  operator View() const { return memory_.view(DType::f32, shape_); }
  operator ConstView() const { return memory_.view(DType::f32, shape_); }
  std::vector<float> values() const {
    Array host(shape_);
    copy(stream_, host, *this);
    stream_.synchronize();
    return host.values;
  }

 private:
  Stream& stream_;
  Buffer memory_;
  Shape shape_;
};

}  // namespace lockstep::testing_support
