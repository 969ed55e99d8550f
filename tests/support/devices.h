// SPDX-License-Identifier: Apache-2.0
// What tests of GPUs ask about the machine: the GPUs may be real, or the emulated ones of tests/cuda_emulation.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/device/device.h"
#include "kernels/matmul.h"

namespace lockstep {

inline bool has_gpu() { return find_cuda_devices().count() > 0; }
inline bool gpu_is_emulated() { return has_gpu() && find_cuda_devices().devices[0].name.starts_with("Emulated"); }
// Whether products have the same bits on CPU and GPU: the emulated device multiplies by Eigen, like a CPU half without
// oneDNN. A real one adds in an order of its own, and so does the emulated one with LOCKSTEP_EMULATED_PRODUCTS. Tests
// compare with a tolerance then, or leave out what would say nothing; they are not skipped, because a skipped test of
// a GPU is one that found none (tools/gpu_check.sh).
inline bool products_have_equal_bits() {
  return gpu_is_emulated() && matmul_library().starts_with("Eigen") && !std::getenv("LOCKSTEP_EMULATED_PRODUCTS");
}

}  // namespace lockstep

// Ends a test, with the reason, where there is no GPU.
#define LOCKSTEP_NEEDS_GPU() \
  if (!lockstep::has_gpu()) GTEST_SKIP() << "needs a GPU: " << lockstep::find_cuda_devices().detail
