// SPDX-License-Identifier: Apache-2.0
// The lines of op_cases() for the ops of runtime/ops/language.h.
#pragma once

#include <vector>

#include "tools/bench/ops/op_cases.h"

namespace lockstep {

std::vector<OpCase> language_op_cases();

}  // namespace lockstep
