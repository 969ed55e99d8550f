// SPDX-License-Identifier: Apache-2.0
#include "runtime/autograd/context.h"

#include "collectives/mesh_group.h"

namespace lockstep {

const MeshGroup* Context::group(std::string_view axis) const {
  if (groups_ == nullptr) return nullptr;
  const MeshGroup& found = find_group(*groups_, axis);
  return found.size() > 1 ? &found : nullptr;
}

}  // namespace lockstep
