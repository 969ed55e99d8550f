// SPDX-License-Identifier: Apache-2.0
// TOML files as trees, by toml++: the one place where its header is set up.
#pragma once

// Recursion while reading and destroying then stays shallow; nothing in these files nests deeper than 3.
#define TOML_MAX_NESTED_VALUES 8
// Some texts, such as "[[*a]]", break what toml++ 3.3 takes for granted: that is an exception then, in every build.
#undef NDEBUG
#define TOML_ASSERT(holds) lockstep::assert_parser(static_cast<bool>(holds))
namespace lockstep {
struct ParserAssertion {};
constexpr void assert_parser(bool holds) {
  if (!holds) throw ParserAssertion();
}
}  // namespace lockstep
#include <toml++/toml.h>

#include <string>
#include <string_view>

namespace lockstep {

// Error(data) names `where` and the line of what is no TOML, and what check_toml_text() refuses.
toml::table parse_toml(std::string_view text, const std::string& where);

// Text of a file as a message can show it: short, and without characters that move the cursor of a terminal.
std::string shown(std::string_view text);

}  // namespace lockstep
