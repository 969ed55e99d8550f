// SPDX-License-Identifier: Apache-2.0
// Operands: how an elementwise formula touches one array. T is the stored type; arithmetic is float.
#pragma once

#include <cstdint>

#include "kernels/granule.h"
#include "kernels/host_device.h"

namespace lockstep {

template <class T>
struct In {
  const T* data;
  HOST_DEVICE float load(int64_t i) const { return float(data[i]); }
  HOST_DEVICE void store(int64_t, float) const {}
};

template <class T>
struct Out {
  T* data;
  HOST_DEVICE float load(int64_t) const { return 0; }
  HOST_DEVICE void store(int64_t i, float x) const { data[i] = T(x); }
};

template <class T>
struct InOut {
  T* data;
  HOST_DEVICE float load(int64_t i) const { return float(data[i]); }
  HOST_DEVICE void store(int64_t i, float x) const { data[i] = T(x); }
};

// The same value for every element.
struct Same {
  float value;
  HOST_DEVICE float load(int64_t) const { return value; }
  HOST_DEVICE void store(int64_t, float) const {}
};

// Operands whose values hold for a whole granule are looked up once per granule: in_granule(g) gives an operand for the
// elements [kGranule g, kGranule (g + 1)).
template <class Operand>
concept ByGranule = requires(const Operand& operand) {
  operand.in_granule(int64_t(0));
};

// A value for each granule, looked up: values[index[g]].
struct PerGranule {
  const uint32_t* index;
  const float* values;
  HOST_DEVICE Same in_granule(int64_t granule) const { return {values[index[granule]]}; }
  HOST_DEVICE float load(int64_t i) const { return in_granule(i / kGranule).value; }
  HOST_DEVICE void store(int64_t, float) const {}
};

template <class T>
In<T> in(const T* data) {
  return {data};
}
template <class T>
Out<T> out(T* data) {
  return {data};
}
template <class T>
InOut<T> inout(T* data) {
  return {data};
}

// A formula may hold addresses of numbers that are the same for all elements. Then load() returns the formula with
// these numbers in registers: a thread of a GPU calls it once for all its elements, a walk on the CPU once.
template <class F>
HOST_DEVICE decltype(auto) loaded(const F& f) {
  if constexpr (requires { f.load(); }) {
    return f.load();
  } else {
    return (f);
  }
}

// Loads element i of every operand, calls f on the registers, stores what changed.
template <class F, class... Operand>
HOST_DEVICE inline void apply_at(int64_t i, const F& f, const Operand&... operand) {
  [&](auto... x) {
    f(x...);
    (operand.store(i, x), ...);
  }(operand.load(i)...);
}

}  // namespace lockstep
