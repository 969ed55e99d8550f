// SPDX-License-Identifier: Apache-2.0
// Benchmark rows of ops, made from tools/bench/ops/op_cases.cpp, and of the products of the shipped models.
#pragma once

#include <vector>

#include "tools/bench/benchmark.h"
#include "tools/bench/device/device_bench.h"

namespace lockstep {

// Times forward and backward of every op at the sizes of the shipped models. Products count FLOP/s against a product of
// 1024 x 1024 x 1024; the rest counts bytes against an addition in place that moves as many.
std::vector<BenchmarkRow> bench_ops(int threads, const RowFilter& wanted = {});

// The same rows on a GPU. Batches are cut so that no array of a batch has more than bench.elements(), down to one
// sample.
std::vector<BenchmarkRow> bench_ops(DeviceBench& bench);

}  // namespace lockstep
