// SPDX-License-Identifier: Apache-2.0
#include "kernels/gated.h"

#include "kernels/backend.h"
#include "kernels/pointwise.h"

namespace lockstep {
namespace {

struct Gate {
  HOST_DEVICE void operator()(float& y, float gate, float up) const { y = gate * Sigmoid::value(gate) * up; }
};

struct GateGrad {
  HOST_DEVICE void operator()(float& d_gate, float& d_up, float dy, float gate, float up) const {
    const float s = Sigmoid::value(gate), silu = gate * s;
    d_gate = dy * up * (s + silu * (1 - s));
    d_up = dy * silu;
  }
};

}  // namespace

void run(Backend, Stream& stream, const SwiGlu& k) {
  check_same_size("swiglu", k.out, k.gate, k.up);
  dispatch_activation(k.out.dtype, [&]<class T>(TypeTag<T>) {
    backend::elementwise(stream, k.out.size(), Gate{}, out(data<T>(k.out)), in(data<T>(k.gate)), in(data<T>(k.up)));
  });
}

void run(Backend, Stream& stream, const SwiGluGrad& k) {
  check_same_size("swiglu gradient", k.d_gate, k.d_up, k.d_out, k.gate, k.up);
  dispatch_activation(k.d_out.dtype, [&]<class T>(TypeTag<T>) {
    backend::elementwise(stream, k.d_out.size(), GateGrad{}, out(data<T>(k.d_gate)), out(data<T>(k.d_up)),
                         in(data<T>(k.d_out)), in(data<T>(k.gate)), in(data<T>(k.up)));
  });
}

}  // namespace lockstep
