// SPDX-License-Identifier: Apache-2.0
// SwiGLU (Shazeer 2020): one half of a layer lets the other through.
#pragma once

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

struct SwiGlu {  // out = gate * sigmoid(gate) * up, all of one size, f32 or bf16
  View out;
  ConstView gate, up;
};
void run(Cpu, Stream&, const SwiGlu&);
void run(Cuda, Stream&, const SwiGlu&);

struct SwiGluGrad {  // both gradients in one pass
  View d_gate, d_up;
  ConstView d_out, gate, up;
};
void run(Cpu, Stream&, const SwiGluGrad&);
void run(Cuda, Stream&, const SwiGluGrad&);

}  // namespace lockstep
