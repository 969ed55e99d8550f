// SPDX-License-Identifier: Apache-2.0
// The dtype in which matrices are kept, and how updates get into it.
#pragma once

#include <string_view>

#include "kernels/device/dtype.h"
#include "optimizers/optimizer.h"

namespace lockstep {

struct Precision {
  std::string_view name = "f32";
  DType weights = DType::f32;
  bool stochastic_rounding = false;  // otherwise there are f32 masters of narrow weights

  bool has_masters() const { return is_narrow(weights) && !stochastic_rounding; }
};

inline constexpr Precision kPrecisions[] = {
    {}, {"bf16", DType::bf16, false}, {"bf16-stochastic", DType::bf16, true}, {"f16", DType::f16, false}};
constexpr std::string_view to_string(const Precision& precision) { return precision.name; }

// The precision with these weights and this rounding, which must exist.
const Precision& precision_of(DType weights, bool stochastic_rounding);

// Bytes that the update of one element reads and writes: a master is read and written, its copy written, and so on.
int64_t update_bytes(const Optimizer& optimizer, const Precision& precision);

}  // namespace lockstep
