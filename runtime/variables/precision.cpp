// SPDX-License-Identifier: Apache-2.0
#include "runtime/variables/precision.h"

#include <algorithm>

namespace lockstep {

const Precision& precision_of(DType weights, bool stochastic_rounding) {
  return *std::ranges::find_if(kPrecisions, [&](const Precision& each) {
    return each.weights == weights && each.stochastic_rounding == stochastic_rounding;
  });
}

int64_t update_bytes(const Optimizer& optimizer, const Precision& precision) {
  const int64_t bytes = optimizer.bytes_per_element(), narrow = size_of(precision.weights);
  if (precision.has_masters()) return bytes + narrow;
  return bytes + 2 * (narrow - size_of(DType::f32));
}

}  // namespace lockstep
