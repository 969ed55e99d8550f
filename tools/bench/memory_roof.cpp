// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/memory_roof.h"

#include "kernels/backend.h"

namespace lockstep {

namespace {

struct AddConstant {
  float constant;
  template <class... Value>
  HOST_DEVICE void operator()(Value&... x) const {
    ((x += constant), ...);
  }
};

struct CopyElement {
  HOST_DEVICE void operator()(float& out, float in) const { out = in; }
};

struct SpreadElement {
  float* out;
  float low, high;
  HOST_DEVICE void operator()(int64_t i) const {
    const uint32_t scattered = uint32_t(i) * 2654435761u;  // Knuth's multiplicative hash
    out[i] = low + (high - low) * (float(scattered >> 8) * 0x1p-24f);
  }
};

}  // namespace

void run(Backend, Stream& stream, const AddInPlace& k) {
  const int64_t quarter = k.x.size() / 4 / 64 * 64;
  float* x = data<float>(k.x);
  backend::elementwise(stream, quarter, AddConstant{k.constant}, inout(x), inout(x + quarter), inout(x + 2 * quarter),
                       inout(x + 3 * quarter));
  backend::elementwise(stream, k.x.size() - 4 * quarter, AddConstant{k.constant}, inout(x + 4 * quarter));
}

void run(Backend, Stream& stream, const CopyArray& k) {
  backend::elementwise(stream, k.in.size(), CopyElement{}, out(data<float>(k.out)), in(data<float>(k.in)));
}

void run(Backend, Stream& stream, const FillSpread& k) {
  backend::gather(stream, k.out.size(), SpreadElement{data<float>(k.out), k.low, k.high});
}

}  // namespace lockstep
