// SPDX-License-Identifier: Apache-2.0
// What the GPU half of Matmul says of itself.
#pragma once

#include <string>

#include "kernels/device/device.h"

namespace lockstep {

// The library, the kind of GPU and the environment that decide bits of products on it; empty for a GPU that is
// emulated, whose products are the CPU's.
std::string matmul_numerics(const CudaDevice& device);

}  // namespace lockstep
