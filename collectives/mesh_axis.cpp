// SPDX-License-Identifier: Apache-2.0
#include "collectives/mesh_axis.h"

#include "kernels/device/check.h"

namespace lockstep {

std::string describe_mesh(std::span<const MeshAxis> axes) {
  std::string text;
  for (const MeshAxis& axis : axes) text += str(text.empty() ? "" : ",", axis.name, "=", axis.size);
  return text;
}

void check_mesh(std::span<const MeshAxis> axes, int ranks) {
  check(!axes.empty(), ErrorCode::plan, "a mesh needs at least one axis, such as data=2");
  int64_t product = 1;
  for (size_t i = 0; i < axes.size(); ++i) {
    check(!axes[i].name.empty(), ErrorCode::plan,
          [&] { return str("axis ", i, " of mesh '", describe_mesh(axes), "' has no name"); });
    check(axes[i].size >= 1, ErrorCode::plan, [&] {
      return str("axis '", axes[i].name, "' of mesh '", describe_mesh(axes), "' has size ", axes[i].size,
                 "; expected at least 1");
    });
    for (size_t j = 0; j < i; ++j)
      check(axes[i].name != axes[j].name, ErrorCode::plan, [&] {
        return str("mesh '", describe_mesh(axes), "' has two axes named '", axes[i].name, "'; names must differ");
      });
    product *= axes[i].size;
    check(product <= ranks, ErrorCode::plan, [&] {
      return str("mesh '", describe_mesh(axes), "' needs more ranks than the ", ranks,
                 " there are; shrink an axis or start more");
    });
  }
  check(product == ranks, ErrorCode::plan, [&] {
    return str("mesh '", describe_mesh(axes), "' has room for ", product, " ranks, but there are ", ranks,
               "; the product of the sizes must be the number of ranks");
  });
}

std::vector<int> mesh_coordinates(std::span<const MeshAxis> axes, int rank) {
  std::vector<int> coordinates(axes.size());
  for (size_t i = axes.size(); i-- > 0; rank /= axes[i].size) coordinates[i] = rank % axes[i].size;
  return coordinates;
}

}  // namespace lockstep
