// SPDX-License-Identifier: Apache-2.0
// Rules for paths of variables, as users write them: exact paths and regular expressions.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

// A rule whose pattern is exactly the path wins; otherwise the pattern that matches the whole path does. Two patterns
// that match are an error, and order never decides. Patterns are checked when they are added, and matching takes time
// linear in the path whatever the pattern.
class PathPatterns {
 public:
  // `kind` is what messages call a rule, such as "layout rule"; static.
  explicit PathPatterns(std::string_view kind);
  ~PathPatterns();
  PathPatterns(const PathPatterns&);
  PathPatterns& operator=(const PathPatterns&);
  PathPatterns(PathPatterns&&) noexcept;
  PathPatterns& operator=(PathPatterns&&) noexcept;

  // `pattern` is a path, or a regular expression (RE2 syntax) that must match a whole path; `where` (file and line, for
  // messages) may be empty. Throws Error(plan) for an empty, known or malformed pattern.
  void add(std::string pattern, std::string where = {});
  // The number of the rule for `path`, in the order they were added, -1 when none matches. Throws Error(plan) naming
  // all when several do.
  int find(std::string_view path) const;

 private:
  struct Rule {
    std::string pattern, where;
  };
  struct Compiled;
  std::string quoted(const Rule& rule) const;

  std::string_view kind_;
  std::vector<Rule> rules_;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace lockstep
