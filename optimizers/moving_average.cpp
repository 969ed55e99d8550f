// SPDX-License-Identifier: Apache-2.0
#include "optimizers/moving_average.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

struct AverageElement {
  float kept;
  bool overwrites, skip;

  HOST_DEVICE void operator()(float& param, float& average) const {
    if (skip) return;
    // Adding a distance keeps an average where it is once the parameter has reached it.
    average = kept == 0 ? param : average + (param - average) * (1 - kept);
    if (overwrites) param = average;
  }
};

// The same, but reads the counter and the decision where they lie.
struct PreparedAverage {
  float momentum;
  int64_t overwrite_every;
  const int64_t* iteration;
  const StepScalars* decision;

  HOST_DEVICE AverageElement load() const {
    const int64_t step = *iteration;
    return {step == 1 ? 0.0f : momentum, overwrite_every > 0 && step % overwrite_every == 0, decision->skip};
  }
};

// Selects the granules of variables that are not frozen.
struct OfAnyGroup {
  const uint32_t* variable_of;
  const uint32_t* groups;
  HOST_DEVICE bool operator()(int64_t granule) const { return groups[variable_of[granule]] != kNoGroup; }
};

template <class Param>
void average_elements(Stream& stream, const AverageParameters& k, Param* param) {
  const PreparedAverage element{float(k.momentum), k.overwrite_every, k.iteration, k.decision};
  const auto average = inout(data<float>(k.average));
  if (k.granules.groups == nullptr) return backend::elementwise(stream, k.param.size(), element, inout(param), average);
  const OfAnyGroup moving{k.granules.variable_of, k.granules.groups};
  backend::elementwise_where(stream, k.param.size(), moving, element, inout(param), average);
}

}  // namespace

void run(Backend, Stream& stream, const AverageParameters& k) {
  if (k.param.dtype == DType::bf16) return average_elements(stream, k, data<bfloat16>(k.param));
  average_elements(stream, k, data<float>(k.param));
}

}  // namespace lockstep
