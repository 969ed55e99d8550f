// SPDX-License-Identifier: Apache-2.0
// launch(stream, kernel): runs the half of a kernel that belongs to the stream's device.
#pragma once

#include "kernels/config.h"
#include "kernels/device/check.h"
#include "kernels/device/device.h"

namespace lockstep {

template <class Kernel>
void launch(Stream& stream, const Kernel& kernel) {
  if (stream.device().kind == DeviceKind::cpu) return run(Cpu{}, stream, kernel);
  if constexpr (config::cuda) return run(Cuda{}, stream, kernel);
  fail(ErrorCode::device, "this build has no CUDA backend; configure with -DLOCKSTEP_CUDA=ON on a machine with nvcc");
}

}  // namespace lockstep
