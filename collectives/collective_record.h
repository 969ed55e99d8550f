// SPDX-License-Identifier: Apache-2.0
// A collective as plans foresee it and logs remember it.
#pragma once

#include <cstdint>
#include <string>

#include "collectives/collective_kind.h"
#include "kernels/device/dtype.h"

namespace lockstep {

struct CollectiveRecord {
  CollectiveKind kind = CollectiveKind::all_reduce;
  DType dtype = DType::f32;
  std::string group;  // the communicator's name, such as the axis of a mesh
  int64_t bytes = 0;  // bytes of the whole operand, the parts of all ranks together
  friend bool operator==(const CollectiveRecord&, const CollectiveRecord&) = default;
};

}  // namespace lockstep
