// SPDX-License-Identifier: Apache-2.0
#include "runtime/variables/precision.h"

#include <algorithm>

#include "kernels/device/check.h"

namespace lockstep {

const Precision& parse_precision(std::string_view name) {
  const auto known = std::ranges::find(kPrecisions, name, &Precision::name);
  check(known != kPrecisions.end(), ErrorCode::usage,
        [&] { return str("--precision: expected f32, bf16, bf16-stochastic or f16, got '", name, "'"); });
  return *known;
}

int64_t update_bytes(const Optimizer& optimizer, const Precision& precision) {
  const int64_t bytes = optimizer.bytes_per_element(), narrow = size_of(precision.weights);
  if (precision.has_masters()) return bytes + narrow;
  return bytes + 2 * (narrow - size_of(DType::f32));
}

}  // namespace lockstep
