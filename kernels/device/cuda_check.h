// SPDX-License-Identifier: Apache-2.0
// cuda_check(call): turns an error code of the CUDA runtime into an Error that names the place of the call.
#pragma once

#include <cuda_runtime_api.h>

#include <source_location>

#include "kernels/device/check.h"

namespace lockstep {

inline void cuda_check(cudaError_t status, std::source_location at = std::source_location::current()) {
  if (status == cudaSuccess) [[likely]]
    return;
  // Reading the error clears it, unless it has broken the device for this process.
  static_cast<void>(cudaGetLastError());
  fail(ErrorCode::device,
       str("CUDA: ", cudaGetErrorString(status), " (", cudaGetErrorName(status),
           "); an earlier kernel may be the cause: run again with CUDA_LAUNCH_BLOCKING=1 to find it"),
       at);
}

}  // namespace lockstep
