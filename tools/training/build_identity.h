// SPDX-License-Identifier: Apache-2.0
// Which program this is: ranks that train together must run the same one.
#pragma once

#include <string>

namespace lockstep {

// Hash of the running executable's bytes, 16 hex digits. Throws Error(file) when it cannot be read.
std::string build_identity();

}  // namespace lockstep
