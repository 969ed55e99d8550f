// SPDX-License-Identifier: Apache-2.0
// The axes of a mesh of ranks as values: names and sizes, without ranks that could talk to each other.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace lockstep {

struct MeshAxis {
  std::string name;
  int size = 1;
  friend bool operator==(const MeshAxis&, const MeshAxis&) = default;
};

// "data=2,model=3"
std::string describe_mesh(std::span<const MeshAxis> axes);

// Error(plan) for no axes, empty or repeated names, sizes below 1, or a product that is not the number of ranks.
void check_mesh(std::span<const MeshAxis> axes, int ranks);

// Where a rank stands on each axis. Ranks are numbered row by row: the last axis varies fastest.
std::vector<int> mesh_coordinates(std::span<const MeshAxis> axes, int rank);

}  // namespace lockstep
