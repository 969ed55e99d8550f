// SPDX-License-Identifier: Apache-2.0
// The cost of planning: time and memory for many variables, on few and on very many ranks.
#pragma once

#include <vector>

#include "tools/bench/benchmark.h"

namespace lockstep {

// 10,000 variables with Adam's slots, laid out by rules, are planned and checked on one core for meshes of 1,000 to
// 100,000 ranks. The roof of a row is the time for 1,000 ranks: the cost must not grow with the ranks.
std::vector<BenchmarkRow> bench_planning();

}  // namespace lockstep
