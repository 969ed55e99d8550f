// SPDX-License-Identifier: Apache-2.0
// In which dtype matrices are kept, and how updates get into it.
#pragma once

#include <array>
#include <string_view>

#include "kernels/device/dtype.h"
#include "optimizers/optimizer.h"

namespace lockstep {

struct Precision {
  std::string_view name = "f32";
  DType weights = DType::f32;
  bool stochastic_rounding = false;  // otherwise there are f32 masters of what is narrow

  bool has_masters() const { return is_narrow(weights) && !stochastic_rounding; }
};

inline constexpr std::array kPrecisions = {Precision{}, Precision{"bf16", DType::bf16, false},
                                           Precision{"bf16-stochastic", DType::bf16, true},
                                           Precision{"f16", DType::f16, false}};

// One of kPrecisions by its name. Error(usage).
const Precision& parse_precision(std::string_view name);

// Bytes that one element's update reads and writes: a master is read and written, its copy written, and so on.
int64_t update_bytes(const Optimizer& optimizer, const Precision& precision);

}  // namespace lockstep
