// SPDX-License-Identifier: Apache-2.0
#include "optimizers/moving_average.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

struct AverageElement {
  float momentum;
  int64_t overwrite_every;
  const int64_t* iteration;
  const StepScalars* decision;

  HOST_DEVICE void operator()(float& param, float& average) const {
    if (decision->skip) return;
    const int64_t step = *iteration;
    const float kept = step == 1 ? 0.0f : momentum;
    // As a distance, so that an average that the parameter has reached stays where it is.
    average = kept == 0 ? param : average + (param - average) * (1 - kept);
    if (overwrite_every > 0 && step % overwrite_every == 0) param = average;
  }
};

}  // namespace

void run(Backend, Stream& stream, const AverageParameters& k) {
  const AverageElement element{float(k.momentum), k.overwrite_every, k.iteration, k.decision};
  const auto average = inout(data<float>(k.average));
  if (k.param.dtype == DType::bf16)
    return backend::elementwise(stream, k.param.size(), element, inout(data<bfloat16>(k.param)), average);
  backend::elementwise(stream, k.param.size(), element, inout(data<float>(k.param)), average);
}

}  // namespace lockstep
