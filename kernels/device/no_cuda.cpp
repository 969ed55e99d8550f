// SPDX-License-Identifier: Apache-2.0
// The CUDA half of the device layer in a build without CUDA: no devices, and a clear error.
#include "kernels/device/check.h"
#include "kernels/device/device.h"
#include "kernels/device/memory_backend.h"

namespace lockstep {

CudaDevices find_cuda_devices() { return {0, "this build has no CUDA backend (configure with -DLOCKSTEP_CUDA=ON)"}; }

Stream Stream::cuda(int index) {
  fail(ErrorCode::device, str("device cuda:", index, " asked for, but ", find_cuda_devices().detail));
}

namespace cuda_backend {
void* allocate(int, int64_t) noexcept { return nullptr; }
void release(void*) noexcept {}
void destroy_stream(void*) noexcept {}
void synchronize_stream(void*) {}
}  // namespace cuda_backend

}  // namespace lockstep
