// SPDX-License-Identifier: Apache-2.0
#include "kernels/numerics.h"

#include <cfenv>
#include <cstdlib>

#include "kernels/config.h"
#include "kernels/matmul_cpu.h"
#include "kernels/matmul_cuda.h"

namespace lockstep {
namespace {

std::string products_on_cpu() {
  if constexpr (config::onednn) {
    return onednn::matmul_numerics();
  } else {
    return eigen::matmul_numerics();
  }
}

// Code that was built for speed alone, a library that is loaded with it among them, switches these for the whole
// process.
std::string floating_point_modes() {
  const volatile float smallest_normal = 0x1p-126f;
  std::string modes;
  if (smallest_normal / 2 == 0) modes += ",denormals:flushed";
  if (std::fegetround() != FE_TONEAREST) modes += str(",rounding:", std::fegetround());
  return modes;
}

}  // namespace

std::string numerics(Device device) {
  const std::string on_cpu = products_on_cpu() + floating_point_modes();
  if constexpr (config::cuda) {
    if (device.kind == DeviceKind::cuda) {
      const std::string on_gpu = matmul_numerics(find_cuda_devices().devices[size_t(device.index)]);
      // The stand-in of a GPU multiplies as this CPU does.
      return on_gpu.empty() ? on_cpu : on_gpu;
    }
  }
  return on_cpu;
}

}  // namespace lockstep
