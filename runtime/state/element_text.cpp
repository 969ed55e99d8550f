// SPDX-License-Identifier: Apache-2.0
#include "runtime/state/element_text.h"

#include <cstdio>
#include <cstring>
#include <vector>

#include "kernels/device/check.h"

namespace lockstep {

double element_value(const void* memory, DType dtype, int64_t index) {
  const auto at = [&]<class T>(T) {
    T value;
    std::memcpy(&value, static_cast<const char*>(memory) + index * int64_t(sizeof(T)), sizeof(T));
    return value;
  };
  switch (dtype) {
    case DType::f32:
      return double(at(float()));
    case DType::bf16:
      return double(float(at(bfloat16())));
    case DType::f16:
      return double(float(at(float16())));
    case DType::f64:
      return at(double());
    case DType::i32:
      return double(at(int32_t()));
    case DType::i64:
      return double(at(int64_t()));
  }
  return 0;
}

std::string hex_float(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%a", value);
  return text;
}

std::string place_text(int64_t index, std::span<const int64_t> shape) {
  std::vector<int64_t> place(shape.size());
  for (size_t d = shape.size(); d-- > 0; index /= shape[d]) place[d] = index % shape[d];
  std::string text = "[";
  for (size_t d = 0; d < place.size(); ++d) text += str(d == 0 ? "" : ", ", place[d]);
  return text + "]";
}

}  // namespace lockstep
