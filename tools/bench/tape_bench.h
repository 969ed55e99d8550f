// SPDX-License-Identifier: Apache-2.0
// lockstep bench tape: what recording and replaying an op costs beside its arithmetic.
#pragma once

#include <vector>

#include "tools/bench/benchmark.h"

namespace lockstep {

// Nanoseconds per op, forward and backward, of chains of small additions; the roof is the same kernels without a tape.
std::vector<BenchmarkRow> bench_tape();

}  // namespace lockstep
