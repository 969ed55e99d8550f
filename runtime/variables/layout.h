// SPDX-License-Identifier: Apache-2.0
// A layout says which mesh axis splits which dimension of a variable. Layouts are values about names; they know neither
// memory nor ranks.
#pragma once

#include <string>
#include <vector>

namespace lockstep {

// One entry per dimension: the mesh axis that splits it, or "" where it is whole. A scalar's layout is explicitly
// empty, which differs from having no layout.
struct Layout {
  std::vector<std::string> axes;

  static Layout replicated(int rank) { return {std::vector<std::string>(size_t(rank))}; }
  bool is_replicated() const {
    for (const std::string& axis : axes)
      if (!axis.empty()) return false;
    return true;
  }
  friend bool operator==(const Layout&, const Layout&) = default;
};

std::string to_string(const Layout& layout);  // "[]", "[-, data]"

}  // namespace lockstep
