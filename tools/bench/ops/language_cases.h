// SPDX-License-Identifier: Apache-2.0
// The lines of op_cases() for the ops of runtime/ops/language.h.
#pragma once

#include <vector>

#include "tools/bench/ops/op_cases.h"

namespace lockstep {

std::vector<OpCase> language_op_cases();

// Those of `cases` whose ops are parts of blocks of language models, with activations in bf16; they have no rows in the
// benchmark.
std::vector<OpCase> cases_in_bf16(const std::vector<OpCase>& cases);

}  // namespace lockstep
