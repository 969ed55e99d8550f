// SPDX-License-Identifier: Apache-2.0
// Rules from paths of variables to layouts: Keras' LayoutMap, made strict.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/variables/layout.h"
#include "runtime/variables/path_patterns.h"

namespace lockstep {

struct LayoutRule {
  std::string pattern;  // as in PathPatterns
  Layout layout;
  std::string where;  // file and line, for messages; may be empty
};

class LayoutMap {
 public:
  // Throws Error(plan) for a pattern that PathPatterns does not take, with `where`.
  void add(std::string pattern, Layout layout, std::string where = {}) {
    patterns_.add(pattern, where);
    rules_.push_back({std::move(pattern), std::move(layout), std::move(where)});
  }
  // The rule for `path` as an index into rules(), -1 when none matches. Throws Error(plan) naming all when several do.
  int find(std::string_view path) const { return patterns_.find(path); }

  const std::vector<LayoutRule>& rules() const { return rules_; }
  bool empty() const { return rules_.empty(); }

 private:
  std::vector<LayoutRule> rules_;
  PathPatterns patterns_{"layout rule"};
};

}  // namespace lockstep
