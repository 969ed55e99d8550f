// SPDX-License-Identifier: Apache-2.0
// Named axes over ranks: the only place where the name of an axis becomes a communicator.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "collectives/communicator.h"

namespace lockstep {

struct MeshAxis {
  std::string name;
  int size = 1;
  friend bool operator==(const MeshAxis&, const MeshAxis&) = default;
};

// Error(plan) for no axes, empty or repeated names, sizes below 1, or a product that is not the number of ranks.
void check_mesh(std::span<const MeshAxis> axes, int ranks);

// Where a rank stands on each axis. Ranks are numbered row by row: the last axis varies fastest.
std::vector<int> mesh_coordinates(std::span<const MeshAxis> axes, int rank);

class DeviceMesh {
 public:
  // Collective over `ranks`, which outlives the mesh.
  DeviceMesh(Communicator& ranks, std::vector<MeshAxis> axes);

  const std::vector<MeshAxis>& axes() const { return axes_; }
  Communicator& ranks() const { return ranks_; }
  int size(std::string_view axis) const { return axes_[find(axis)].size; }
  int coordinate(std::string_view axis) const { return coordinates_[find(axis)]; }
  // The ranks that differ from this one on that axis alone, in order of their coordinate.
  Communicator& axis(std::string_view name) const;

 private:
  size_t find(std::string_view axis) const;

  Communicator& ranks_;
  std::vector<MeshAxis> axes_;
  std::vector<int> coordinates_;
  std::vector<std::unique_ptr<Communicator>> communicators_;
};

}  // namespace lockstep
