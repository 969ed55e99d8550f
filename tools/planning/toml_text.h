// SPDX-License-Identifier: Apache-2.0
// TOML texts before the parser sees them: of bounded size, and free of what toml++ 3.3 cannot take safely.
#pragma once

#include <string>
#include <string_view>

namespace lockstep {

// The content of a file. Throws Error(file), and Error(data) for a file that is too large.
std::string read_toml_text(const std::string& path);

// Throws Error(data) naming `where` and the line when a text is too large, a line could nest keys too deep, or
// characters beyond ASCII are elsewhere than on comment lines without quotes.
void check_toml_text(std::string_view text, const std::string& where);

}  // namespace lockstep
