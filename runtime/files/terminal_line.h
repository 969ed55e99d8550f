// SPDX-License-Identifier: Apache-2.0
// A line of a terminal that is rewritten in place. It fits the terminal, however wide that is at the time, because one
// that wraps cannot be rewritten. There are no escape codes: blanks erase what was there.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

namespace lockstep {

// Whether a line can be rewritten on `out`: it is a terminal, and one that can do that.
bool is_terminal_for_lines(std::FILE* out);

// As many of `fields` as fit into `width` columns, with two blanks between them; a first one that is too long is cut.
std::string fitting_line(const std::vector<std::string>& fields, size_t width);

class TerminalLine {
 public:
  // `out` is such a terminal, which the caller owns.
  explicit TerminalLine(std::FILE* out) : out_(out) {}

  // Shows the fields that fit, in place of what is shown. There is at least one.
  void show(const std::vector<std::string>& fields);
  // Leaves it as it is, if anything is shown; what comes next stands on another line.
  void keep();
  // Leaves nothing of it.
  void clear();

 private:
  void rewrite(const std::string& text);

  std::FILE* out_;
  size_t shown_ = 0;  // columns of it
};

}  // namespace lockstep
