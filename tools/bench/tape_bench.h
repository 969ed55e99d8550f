// SPDX-License-Identifier: Apache-2.0
// lockstep bench tape: the cost of recording and replaying an op, beside its arithmetic.
#pragma once

#include <vector>

#include "tools/bench/benchmark.h"

namespace lockstep {

// Nanoseconds per op, forward and backward, in chains of small additions; the roof is the same kernels without a tape.
std::vector<BenchmarkRow> bench_tape();

}  // namespace lockstep
