// SPDX-License-Identifier: Apache-2.0
// Before the first step: every rank runs the same binary with the same options, data and plan, or none runs at all.
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

// Collective. Where a value differs, throws the same Error(mismatch) on every rank: the name, and who has which value.
void check_agreement(Communicator& ranks, const std::vector<NamedValue>& values);

}  // namespace lockstep
