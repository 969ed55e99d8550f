// SPDX-License-Identifier: Apache-2.0
// Elements of variables in words, for messages that say which one differs and how.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "kernels/device/dtype.h"

namespace lockstep {

// Element `index` of memory of the host that holds `dtype`.
double element_value(const void* memory, DType dtype, int64_t index);
// Every bit of it: "0x1.8p-3", "nan".
std::string hex_float(double value);
// Where element `index` of a variable is, counted row by row: "[3, 17]".
std::string place_text(int64_t index, std::span<const int64_t> shape);

}  // namespace lockstep
