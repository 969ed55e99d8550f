// SPDX-License-Identifier: Apache-2.0
// Rules from paths of variables to layouts, as users write them: exact paths and regular expressions.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/layout.h"

namespace lockstep {

struct LayoutRule {
  std::string pattern;  // a path, or a regular expression (RE2 syntax) that must match a whole path
  Layout layout;
  std::string where;  // file and line, for messages; may be empty
};

// Semantics of Keras' LayoutMap, made strict: a rule whose pattern is exactly the path wins; otherwise the pattern that
// matches the whole path; two patterns that match are an error, and order never decides. Patterns are checked when they
// are added, and matching takes time linear in the path whatever the pattern.
class LayoutMap {
 public:
  LayoutMap();
  ~LayoutMap();
  LayoutMap(const LayoutMap&);
  LayoutMap& operator=(const LayoutMap&);
  LayoutMap(LayoutMap&&) noexcept;
  LayoutMap& operator=(LayoutMap&&) noexcept;

  // Throws Error(plan) for an empty or known pattern and for one that is no regular expression, with `where`.
  void add(std::string pattern, Layout layout, std::string where = {});
  // The rule for `path` as an index into rules(), -1 when none matches. Throws Error(plan) naming all when several do.
  int find(std::string_view path) const;

  const std::vector<LayoutRule>& rules() const { return rules_; }
  bool empty() const { return rules_.empty(); }

 private:
  struct Patterns;
  std::vector<LayoutRule> rules_;
  std::unique_ptr<Patterns> patterns_;
};

}  // namespace lockstep
