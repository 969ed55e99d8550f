// SPDX-License-Identifier: Apache-2.0
// How variables and batch are spread over a mesh: the two distributions of Keras, as values.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "collectives/mesh_axis.h"
#include "runtime/variables/layout_map.h"

namespace lockstep {

struct Distribution {
  std::vector<MeshAxis> mesh;
  std::string batch_axis;  // the axis that the batch is split over
  LayoutMap layouts;       // empty: every variable is whole on every rank

  int64_t ranks() const;
  int64_t size(std::string_view axis) const;  // Error(plan) for an unknown axis
  bool has_axis(std::string_view axis) const;
};

// Splits the batch and keeps every variable whole. Without `batch_axis`: the axis called data or batch, otherwise the
// first. Throws Error(plan) for a mesh without axes, repeated or empty names, sizes below 1, an unknown batch axis.
Distribution data_parallel(std::vector<MeshAxis> mesh, std::string batch_axis = {});

// Splits the batch and lays variables out by rules. Also throws for a rule that names an unknown axis, or an axis
// twice.
Distribution model_parallel(std::vector<MeshAxis> mesh, LayoutMap layouts, std::string batch_axis = {});

// "data=8,model=4"; Error(usage) shows the text.
std::vector<MeshAxis> parse_mesh(std::string_view text);
std::string to_string(const std::vector<MeshAxis>& mesh);

}  // namespace lockstep
