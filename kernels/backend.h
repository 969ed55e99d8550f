// SPDX-License-Identifier: Apache-2.0
// A portable source file is compiled once per backend (tools/cmake/add_portable.cmake); in it, `Backend` and
// `backend::` name the backend at hand.
#pragma once

#ifdef LOCKSTEP_DEVICE_HALF
#include "kernels/backend_cuda.cuh"
namespace lockstep {
namespace backend = cuda;
using Backend = Cuda;
}  // namespace lockstep
#else
#include "kernels/backend_cpu.h"
namespace lockstep {
namespace backend = cpu;
using Backend = Cpu;
}  // namespace lockstep
#endif
