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
  backend::elementwise(stream, k.out.size(), Gate{}, out(data<float>(k.out)), in(data<float>(k.gate)),
                       in(data<float>(k.up)));
}

void run(Backend, Stream& stream, const SwiGluGrad& k) {
  check_same_size("swiglu gradient", k.d_gate, k.d_up, k.d_out, k.gate, k.up);
  backend::elementwise(stream, k.d_out.size(), GateGrad{}, out(data<float>(k.d_gate)), out(data<float>(k.d_up)),
                       in(data<float>(k.d_out)), in(data<float>(k.gate)), in(data<float>(k.up)));
}

}  // namespace lockstep
