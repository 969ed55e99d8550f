// SPDX-License-Identifier: Apache-2.0
// Checks before the first step that every rank runs the same binary with the same options, data and plan.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "collectives/communicator.h"

namespace lockstep {

struct NamedValue {
  std::string name;   // "binary", "options", "data", "plan"
  std::string value;  // a hash, or text short enough to print
};

// Collective. If a value differs, every rank throws the same Error(mismatch) with the name, and who has which value.
void check_agreement(Communicator& ranks, const std::vector<NamedValue>& values);

}  // namespace lockstep
