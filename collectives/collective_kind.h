// SPDX-License-Identifier: Apache-2.0
// The kinds of collectives, named alike by communicators, their call logs, plans and forecasts.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "kernels/device/check.h"

namespace lockstep {

enum class CollectiveKind : uint8_t { all_gather, all_reduce, barrier, broadcast, reduce_scatter };

inline constexpr std::array kCollectiveKinds = {CollectiveKind::all_gather, CollectiveKind::all_reduce,
                                                CollectiveKind::barrier, CollectiveKind::broadcast,
                                                CollectiveKind::reduce_scatter};

constexpr std::string_view to_string(CollectiveKind kind) {
  constexpr std::string_view names[] = {"all_gather", "all_reduce", "barrier", "broadcast", "reduce_scatter"};
  return names[size_t(kind)];
}

// Throws Error(usage) that lists the names.
inline CollectiveKind parse_collective_kind(std::string_view name) {
  std::string names;
  for (const CollectiveKind kind : kCollectiveKinds) {
    if (name == to_string(kind)) return kind;
    names += str(names.empty() ? "" : ", ", to_string(kind));
  }
  fail(ErrorCode::usage, str("expected a collective, one of ", names, "; got '", name, "'"));
}

}  // namespace lockstep
