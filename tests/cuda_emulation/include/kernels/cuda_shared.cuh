// SPDX-License-Identifier: Apache-2.0
// Stands in for kernels/cuda_shared.cuh on the emulated device: memory of the block that runs.
#pragma once

#include "tests/cuda_emulation/threads.h"

namespace lockstep::cuda {

template <class T, class Tag>
T& block_shared() {
  static const char tag = 0;  // its address tells one array from another
  return *static_cast<T*>(cuda_emulation::shared_memory(&tag, sizeof(T), alignof(T)));
}

}  // namespace lockstep::cuda
