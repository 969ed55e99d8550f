// SPDX-License-Identifier: Apache-2.0
// Random changes of texts: bytes anywhere, and changes that keep the syntax of TOML and JSON so that they reach what
// lies behind the parser.
#pragma once

#include <random>
#include <string>
#include <vector>

namespace lockstep {

using Random = std::mt19937_64;

// `text` with one to five changes; `corpus` lends pieces.
std::string mutate(std::string text, const std::vector<std::string>& corpus, Random& random);

}  // namespace lockstep
