// SPDX-License-Identifier: Apache-2.0
// Values brought into an interval around zero.
#pragma once

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

struct Clamp {  // inout into [-limit, limit], f32
  View inout;
  float limit;
};
void run(Cpu, Stream&, const Clamp&);
void run(Cuda, Stream&, const Clamp&);

}  // namespace lockstep
