// SPDX-License-Identifier: Apache-2.0
#include "tools/planning/toml_file.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "kernels/device/check.h"
#include "tools/planning/toml_text.h"

namespace lockstep {
namespace {

// Returns ":" and the line on which toml++ gives up: the last line of the shortest beginning on which it does. The
// search parses often, so large texts are left out.
std::string line_of_assertion(std::string_view text) {
  if (text.size() > 256 << 10) return "";
  std::vector<size_t> ends = {text.size()};
  for (size_t at = text.size(); (at = text.substr(0, at).rfind('\n')) != text.npos;) ends.push_back(at);
  std::ranges::reverse(ends);
  const auto gives_up = [&](size_t end) {
    try {
      static_cast<void>(toml::parse(text.substr(0, end)));
    } catch (const toml::parse_error&) {
      return false;
    } catch (const ParserAssertion&) {
      return true;
    }
    return false;
  };
  return str(":", std::ranges::partition_point(ends, std::not_fn(gives_up)) - ends.begin() + 1);
}

}  // namespace

std::string shown(std::string_view text) {
  std::string visible(text.substr(0, 80));
  std::replace_if(
      visible.begin(), visible.end(), [](char c) { return uint8_t(c) < 0x20 || c == 0x7f; }, '?');
  return "'" + visible + (text.size() > 80 ? "...'" : "'");
}

toml::table parse_toml(std::string_view text, const std::string& where) {
  check_toml_text(text, where);
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& error) {
    const toml::source_position& at = error.source().begin;
    const std::string problem = shown(error.description());
    fail(ErrorCode::data, str(where, ":", at.line, ": no TOML from column ", at.column, " on: ", problem));
  } catch (const ParserAssertion&) {
    fail(ErrorCode::data, str(where, line_of_assertion(text), ": no TOML: check headers like [[variable]]"));
  }
}

}  // namespace lockstep
