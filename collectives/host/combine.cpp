// SPDX-License-Identifier: Apache-2.0
#include "collectives/host/combine.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace lockstep {

namespace {

// Elements handled at a time, so that the running result stays in the first-level cache.
constexpr int64_t kBlock = 1024;

template <class T>
using Accumulator = std::conditional_t<std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>, float, T>;

struct Sum {
  template <class A>
  static A apply(A a, A b) {
    if constexpr (std::is_integral_v<A>) {
      using U = std::make_unsigned_t<A>;
      return A(U(a) + U(b));
    } else {
      return a + b;
    }
  }
};
struct Max {
  template <class A>
  static A apply(A a, A b) {
    return a > b || a != a ? a : b;
  }
};
struct Min {
  template <class A>
  static A apply(A a, A b) {
    return a < b || a != a ? a : b;
  }
};

// Two inputs and at most two outputs, the case of two ranks, go through no intermediate.
template <class T, class Op>
void combine_two(T* out, T* second_out, const T* a, const T* b, int64_t n) {
  using A = Accumulator<T>;
  if (second_out == nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = T(Op::template apply<A>(A(a[i]), A(b[i])));
    return;
  }
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const T value = T(Op::template apply<A>(A(a[i]), A(b[i])));
    out[i] = value;
    second_out[i] = value;
  }
}

template <class T, class Op>
void combine_block(std::span<void* const> outs, std::span<const void* const> ins, int64_t begin, int64_t n) {
  using A = Accumulator<T>;
  alignas(64) A value[kBlock];
  const T* first = static_cast<const T*>(ins[0]) + begin;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) value[i] = A(first[i]);
  for (size_t k = 1; k < ins.size(); ++k) {
    const T* next = static_cast<const T*>(ins[k]) + begin;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) value[i] = Op::template apply<A>(value[i], A(next[i]));
  }
  for (void* out : outs) {
    T* to = static_cast<T*>(out) + begin;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) to[i] = T(value[i]);
  }
}

template <class T, class Op>
void combine_typed(std::span<void* const> outs, std::span<const void* const> ins, int64_t n) {
  if (ins.size() == 2 && outs.size() <= 2) {
    return combine_two<T, Op>(static_cast<T*>(outs[0]), outs.size() == 2 ? static_cast<T*>(outs[1]) : nullptr,
                              static_cast<const T*>(ins[0]), static_cast<const T*>(ins[1]), n);
  }
  for (int64_t begin = 0; begin < n; begin += kBlock)
    combine_block<T, Op>(outs, ins, begin, std::min(kBlock, n - begin));
}

template <class T>
void combine_by(ReduceOp op, std::span<void* const> outs, std::span<const void* const> ins, int64_t n) {
  switch (op) {
    case ReduceOp::sum:
      return combine_typed<T, Sum>(outs, ins, n);
    case ReduceOp::max:
      return combine_typed<T, Max>(outs, ins, n);
    case ReduceOp::min:
      return combine_typed<T, Min>(outs, ins, n);
  }
}

}  // namespace

void combine(DType dtype, ReduceOp op, std::span<void* const> outs, std::span<const void* const> ins, int64_t n) {
  if (n == 0) return;
  switch (dtype) {
    case DType::f32:
      return combine_by<float>(op, outs, ins, n);
    case DType::f64:
      return combine_by<double>(op, outs, ins, n);
    case DType::bf16:
      return combine_by<bfloat16>(op, outs, ins, n);
    case DType::f16:
      return combine_by<float16>(op, outs, ins, n);
    case DType::i32:
      return combine_by<int32_t>(op, outs, ins, n);
    case DType::i64:
      return combine_by<int64_t>(op, outs, ins, n);
  }
}

}  // namespace lockstep
