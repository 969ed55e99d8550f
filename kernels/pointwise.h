// SPDX-License-Identifier: Apache-2.0
// Elementwise functions with their slopes, and the kernels that walk them over views of equal size.
#pragma once

#include "kernels/device/view.h"
#include "kernels/host_device.h"
#include "kernels/launch.h"
#include "kernels/math.h"

namespace lockstep {

// A unary function is its value and its derivative, both on one float.
struct Relu {
  static HOST_DEVICE float value(float x) { return x > 0 ? x : 0; }
  static HOST_DEVICE float slope(float x) { return x > 0 ? 1.0f : 0.0f; }
};

struct Tanh {
  static HOST_DEVICE float value(float x) { return tanh_f32(x); }
  static HOST_DEVICE float slope(float x) {
    const float t = tanh_f32(x);
    return 1 - t * t;
  }
};

struct Sigmoid {
  static HOST_DEVICE float value(float x) { return 1 / (1 + exp_f32(-x)); }
  static HOST_DEVICE float slope(float x) {
    const float s = value(x);
    return s * (1 - s);
  }
};

// Gaussian error linear unit in the tanh form (Hendrycks & Gimpel 2016).
struct Gelu {
  static HOST_DEVICE float inner(float x) { return 0.7978845608f * (x + 0.044715f * x * x * x); }
  static HOST_DEVICE float value(float x) { return 0.5f * x * (1 + tanh_f32(inner(x))); }
  static HOST_DEVICE float slope(float x) {
    const float t = tanh_f32(inner(x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.7978845608f * (1 + 3 * 0.044715f * x * x);
  }
};

struct Plus {
  static HOST_DEVICE float value(float a, float b) { return a + b; }
};
struct Times {
  static HOST_DEVICE float value(float a, float b) { return a * b; }
};

template <class F>
struct Unary {  // out = F(in)
  View out;
  ConstView in;
};
template <class F>
struct UnaryGrad {  // d_in = d_out * F'(in)
  View d_in;
  ConstView d_out, in;
};
template <class F>
struct Binary {  // out = F(a, b)
  View out;
  ConstView a, b;
};

template <class F>
void run(Cpu, Stream&, const Unary<F>&);
template <class F>
void run(Cuda, Stream&, const Unary<F>&);
template <class F>
void run(Cpu, Stream&, const UnaryGrad<F>&);
template <class F>
void run(Cuda, Stream&, const UnaryGrad<F>&);
template <class F>
void run(Cpu, Stream&, const Binary<F>&);
template <class F>
void run(Cuda, Stream&, const Binary<F>&);

struct Fill {  // out = value
  View out;
  float value;
};
void run(Cpu, Stream&, const Fill&);
void run(Cuda, Stream&, const Fill&);

struct Copy {  // out = in, converting between floating dtypes
  View out;
  ConstView in;
};
void run(Cpu, Stream&, const Copy&);
void run(Cuda, Stream&, const Copy&);

struct AddInto {  // inout += in
  View inout;
  ConstView in;
};
void run(Cpu, Stream&, const AddInto&);
void run(Cuda, Stream&, const AddInto&);

// These sums are kept to bf16 in arrays of f32: bf16(x) is the value of bf16 nearest to x.
struct RoundToBf16 {  // inout = bf16(inout)
  View inout;
};
void run(Cpu, Stream&, const RoundToBf16&);
void run(Cuda, Stream&, const RoundToBf16&);

struct AddIntoBf16 {  // inout = bf16(bf16(inout) + bf16(in))
  View inout;
  ConstView in;
};
void run(Cpu, Stream&, const AddIntoBf16&);
void run(Cuda, Stream&, const AddIntoBf16&);

struct Spread {  // out[i] = value[0] * scale for every i
  View out;
  ConstView value;
  float scale;
};
void run(Cpu, Stream&, const Spread&);
void run(Cuda, Stream&, const Spread&);

[[noreturn]] void fail_different_views(std::string_view kernel, const ConstView& expected, const ConstView& got);

// Throws Error(internal) unless all views have the size and the dtype of the first.
template <class First, class... Others>
void check_same_size(std::string_view kernel, const First& first, const Others&... others) {
  const auto same = [&](const auto& view) { return view.size() == first.size() && view.dtype == first.dtype; };
  if ((same(others) && ...)) [[likely]]
    return;
  ((same(others) ? void() : fail_different_views(kernel, first, others)), ...);
}

}  // namespace lockstep
