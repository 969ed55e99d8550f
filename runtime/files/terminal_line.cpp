// SPDX-License-Identifier: Apache-2.0
#include "runtime/files/terminal_line.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace lockstep {
namespace {

// The last column stays empty: a terminal may wrap when it is filled.
size_t columns_of(std::FILE* out) {
  winsize size{};
  if (ioctl(fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 79;
  return size.ws_col - 1u;
}

}  // namespace

bool is_terminal_for_lines(std::FILE* out) {
  const char* terminal = std::getenv("TERM");
  return isatty(fileno(out)) != 0 && (terminal == nullptr || std::strcmp(terminal, "dumb") != 0);
}

std::string fitting_line(const std::vector<std::string>& fields, size_t width) {
  std::string line = fields[0].substr(0, width);
  for (size_t i = 1; i < fields.size() && line.size() + 2 + fields[i].size() <= width; ++i) line += "  " + fields[i];
  return line;
}

void TerminalLine::show(const std::vector<std::string>& fields) { rewrite(fitting_line(fields, columns_of(out_))); }

void TerminalLine::keep() {
  if (shown_ > 0) std::fputs("\n", out_);
  shown_ = 0;
  std::fflush(out_);
}

void TerminalLine::clear() {
  if (shown_ == 0) return;
  rewrite("");
  std::fputs("\r", out_);
  std::fflush(out_);
}

void TerminalLine::rewrite(const std::string& text) {
  std::string line = text;
  line.resize(std::max(text.size(), std::min(shown_, columns_of(out_))), ' ');
  std::fputs(("\r" + line).c_str(), out_);
  std::fflush(out_);
  shown_ = text.size();
}

}  // namespace lockstep
