// SPDX-License-Identifier: Apache-2.0
// What a reduction does with two elements.
#pragma once

#include <cstdint>
#include <string_view>

namespace lockstep {

enum class ReduceOp : uint8_t { sum, max, min };

constexpr std::string_view to_string(ReduceOp op) {
  constexpr std::string_view names[] = {"sum", "max", "min"};
  return names[size_t(op)];
}

}  // namespace lockstep
