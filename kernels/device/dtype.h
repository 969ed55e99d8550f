// SPDX-License-Identifier: Apache-2.0
// Element types. dispatch_float() is the only bridge from a value of DType to a C++ type. f64 is for host scalars such
// as the learning rate; kernels compute in f32 on f32, bf16 and f16.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

#include "kernels/device/check.h"
#include "kernels/host_device.h"

namespace lockstep {

enum class DType : uint8_t { f32, bf16, f64, i32, i64, f16 };

// For storage only: arithmetic is done in float. Rounds to nearest even; a NaN stays a NaN.
struct bfloat16 {
  uint16_t bits = 0;
  bfloat16() = default;
  HOST_DEVICE explicit bfloat16(float x) {
    const uint32_t u = __builtin_bit_cast(uint32_t, x);
    const bool is_nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = is_nan ? uint16_t((u >> 16) | 0x40u) : uint16_t((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  HOST_DEVICE explicit operator float() const { return __builtin_bit_cast(float, uint32_t(bits) << 16); }
};

// IEEE 754 binary16, for storage only. Rounds to nearest even, and to infinity from 65520 on; a NaN stays a NaN. It has
// no branches, so that loops vectorise, and is the same on every backend.
struct float16 {
  uint16_t bits = 0;
  float16() = default;
  HOST_DEVICE explicit float16(float x) : bits(rounded(x)) {}
  HOST_DEVICE static uint16_t rounded(float x) {
    const uint32_t u = __builtin_bit_cast(uint32_t, x), magnitude = u & 0x7fffffffu;
    // From 2^-14 on, the exponent's bias changes from 127 to 15, and the bits that fall off are rounded.
    const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    // Below that, adding 1/2, whose last place is 2^-24, does the rounding.
    const float sum = __builtin_bit_cast(float, magnitude) + 0.5f;
    const uint32_t subnormal = __builtin_bit_cast(uint32_t, sum) - 0x3f000000u;
    const uint32_t large = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
    return uint16_t((u >> 16 & 0x8000u) | (magnitude < 0x477ff000u ? finite : large));
  }
  HOST_DEVICE explicit operator float() const {
    const uint32_t magnitude = uint32_t(bits & 0x7fffu) << 13, sign = uint32_t(bits & 0x8000u) << 16;
    // Multiplying by 2^112 moves the bias, also that of subnormal numbers.
    const float scaled = __builtin_bit_cast(float, magnitude) * 0x1p112f;
    const uint32_t infinite = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
    return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, scaled) | infinite | sign);
  }
};

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::f64:
      return 8;
    case DType::i32:
      return 4;
    case DType::i64:
      return 8;
  }
  return 0;
}

constexpr std::string_view to_string(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::f64:
      return "f64";
    case DType::i32:
      return "i32";
    case DType::i64:
      return "i64";
    case DType::f16:
      return "f16";
  }
  return "?";
}

// Whether `dtype` is narrower than f32, in which kernels compute.
constexpr bool is_narrow(DType dtype) { return dtype == DType::bf16 || dtype == DType::f16; }
constexpr bool is_floating(DType dtype) { return dtype == DType::f32 || dtype == DType::f64 || is_narrow(dtype); }

template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::f32;
}
template <>
constexpr DType dtype_of<bfloat16>() {
  return DType::bf16;
}
template <>
constexpr DType dtype_of<float16>() {
  return DType::f16;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::f64;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::i32;
}
template <>
constexpr DType dtype_of<int64_t>() {
  return DType::i64;
}

template <class T>
struct TypeTag {
  using type = T;
};

template <class F>
decltype(auto) dispatch_float(DType dtype, F&& f) {
  if (dtype == DType::f32) return f(TypeTag<float>{});
  if (dtype == DType::bf16) return f(TypeTag<bfloat16>{});
  if (dtype == DType::f16) return f(TypeTag<float16>{});
  fail(ErrorCode::plan, str("expected a floating dtype (f32, bf16, f16), got ", to_string(dtype)));
}

// The same for activations of language models, which are kept in f32 or bf16.
constexpr bool is_activation(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16; }
template <class F>
decltype(auto) dispatch_activation(DType dtype, F&& f) {
  if (dtype == DType::f32) return f(TypeTag<float>{});
  if (dtype == DType::bf16) return f(TypeTag<bfloat16>{});
  fail(ErrorCode::plan, str("expected activations of f32 or bf16, got ", to_string(dtype), "; cast first"));
}

}  // namespace lockstep
