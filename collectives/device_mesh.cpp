// SPDX-License-Identifier: Apache-2.0
#include "collectives/device_mesh.h"

namespace lockstep {

namespace {
std::string describe(std::span<const MeshAxis> axes) {
  std::string text;
  for (const MeshAxis& axis : axes) text += str(text.empty() ? "" : ",", axis.name, "=", axis.size);
  return text;
}
}  // namespace

void check_mesh(std::span<const MeshAxis> axes, int ranks) {
  check(!axes.empty(), ErrorCode::plan, "a mesh needs at least one axis, such as data=2");
  int64_t product = 1;
  for (size_t i = 0; i < axes.size(); ++i) {
    check(!axes[i].name.empty(), ErrorCode::plan,
          [&] { return str("axis ", i, " of mesh '", describe(axes), "' has no name"); });
    check(axes[i].size >= 1, ErrorCode::plan, [&] {
      return str("axis '", axes[i].name, "' of mesh '", describe(axes), "' has size ", axes[i].size,
                 "; expected at least 1");
    });
    for (size_t j = 0; j < i; ++j)
      check(axes[i].name != axes[j].name, ErrorCode::plan, [&] {
        return str("mesh '", describe(axes), "' has two axes named '", axes[i].name, "'; names must differ");
      });
    product *= axes[i].size;
    check(product <= ranks, ErrorCode::plan, [&] {
      return str("mesh '", describe(axes), "' needs more ranks than the ", ranks,
                 " there are; shrink an axis or start more");
    });
  }
  check(product == ranks, ErrorCode::plan, [&] {
    return str("mesh '", describe(axes), "' has room for ", product, " ranks, but there are ", ranks,
               "; the product of the sizes must be the number of ranks");
  });
}

std::vector<int> mesh_coordinates(std::span<const MeshAxis> axes, int rank) {
  std::vector<int> coordinates(axes.size());
  for (size_t i = axes.size(); i-- > 0; rank /= axes[i].size) coordinates[i] = rank % axes[i].size;
  return coordinates;
}

DeviceMesh::DeviceMesh(Communicator& ranks, std::vector<MeshAxis> axes) : ranks_(ranks), axes_(std::move(axes)) {
  check_mesh(axes_, ranks.size());
  coordinates_ = mesh_coordinates(axes_, ranks.rank());
  for (size_t i = 0; i < axes_.size(); ++i) {
    // Ranks with equal coordinates on all other axes are together: that is the rank with coordinate 0 on this one.
    int color = 0;
    for (size_t j = 0; j < axes_.size(); ++j) color = color * axes_[j].size + (j == i ? 0 : coordinates_[j]);
    communicators_.push_back(ranks.split(color, coordinates_[i]));
    communicators_.back()->set_name(axes_[i].name);
  }
}

Communicator& DeviceMesh::axis(std::string_view name) const { return *communicators_[find(name)]; }

size_t DeviceMesh::find(std::string_view axis) const {
  for (size_t i = 0; i < axes_.size(); ++i)
    if (axes_[i].name == axis) return i;
  fail(ErrorCode::plan, str("mesh '", describe(axes_), "' has no axis '", axis, "'"));
}

}  // namespace lockstep
