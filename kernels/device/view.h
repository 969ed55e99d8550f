// SPDX-License-Identifier: Apache-2.0
// Views: a borrowed pointer with dtype, shape and device. Contiguous, row-major, never strided.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "kernels/device/check.h"
#include "kernels/device/device.h"
#include "kernels/device/dtype.h"

namespace lockstep {

inline constexpr int kMaxRank = 6;

// Sizes of the dimensions, outermost first. `{}` is a scalar: one element, rank 0.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const int64_t> sizes) : rank_(int32_t(sizes.size())) {
    check(sizes.size() <= size_t(kMaxRank), ErrorCode::plan,
          [&] { return str("expected at most ", kMaxRank, " dimensions, got ", sizes.size()); });
    for (size_t i = 0; i < sizes.size(); ++i) {
      check(sizes[i] >= 0, ErrorCode::plan, [&] { return str("dimension ", i, " has negative size ", sizes[i]); });
      sizes_[i] = sizes[i];
      check(!__builtin_mul_overflow(size_, sizes[i], &size_), ErrorCode::plan,
            "a shape has more elements than 63 bits can count; check its dimensions");
    }
  }

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return sizes_[size_t(i)]; }
  int64_t size() const { return size_; }  // number of elements
  std::span<const int64_t> sizes() const { return {sizes_.data(), size_t(rank_)}; }

  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_ || a.size_ != b.size_) return false;
    for (int i = 0; i < a.rank_; ++i)
      if (a[i] != b[i]) return false;
    return true;
  }

 private:
  std::array<int64_t, kMaxRank> sizes_{};
  int64_t size_ = 1;
  int32_t rank_ = 0;
};

std::string to_string(const Shape& shape);  // "[128, 10]", "[]"

struct ConstView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  DeviceKind device = DeviceKind::cpu;
  Shape shape;
  int64_t size() const { return shape.size(); }
  int64_t bytes() const { return size() * size_of(dtype); }
};

struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  DeviceKind device = DeviceKind::cpu;
  Shape shape;
  int64_t size() const { return shape.size(); }
  int64_t bytes() const { return size() * size_of(dtype); }
  operator ConstView() const { return {data, dtype, device, shape}; }
};

[[noreturn]] void fail_dtype(DType expected, DType got);

// The typed pointer behind a view; the dtype must match.
template <class T>
const T* data(const ConstView& view) {
  if (view.dtype != dtype_of<T>()) [[unlikely]]
    fail_dtype(dtype_of<T>(), view.dtype);
  return static_cast<const T*>(view.data);
}
template <class T>
T* data(const View& view) {
  if (view.dtype != dtype_of<T>()) [[unlikely]]
    fail_dtype(dtype_of<T>(), view.dtype);
  return static_cast<T*>(view.data);
}

// Elements [begin, end) of a view, as a vector.
inline View slice(const View& view, int64_t begin, int64_t end) {
  return {static_cast<char*>(view.data) + begin * size_of(view.dtype), view.dtype, view.device, Shape{end - begin}};
}
inline ConstView slice(const ConstView& view, int64_t begin, int64_t end) {
  return {static_cast<const char*>(view.data) + begin * size_of(view.dtype), view.dtype, view.device,
          Shape{end - begin}};
}

}  // namespace lockstep
