// SPDX-License-Identifier: Apache-2.0
#include "kernels/clamp.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

struct IntoInterval {
  float limit;
  HOST_DEVICE void operator()(float& x) const { x = x > limit ? limit : x < -limit ? -limit : x; }
};

}  // namespace

void run(Backend, Stream& stream, const Clamp& k) {
  backend::elementwise(stream, k.inout.size(), IntoInterval{k.limit}, inout(data<float>(k.inout)));
}

}  // namespace lockstep
