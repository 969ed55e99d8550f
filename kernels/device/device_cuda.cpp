// SPDX-License-Identifier: Apache-2.0
// Devices, streams and memory of the CUDA backend.
#include "kernels/device/check.h"
#include "kernels/device/cuda_check.h"
#include "kernels/device/device.h"
#include "kernels/device/memory_backend.h"

namespace lockstep {

CudaDevices find_cuda_devices() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    static_cast<void>(cudaGetLastError());
    return {0, status == cudaSuccess ? "this machine has no CUDA device"
                                     : str("this machine has no usable CUDA device: ", cudaGetErrorString(status))};
  }
  std::string names;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties;
    cuda_check(cudaGetDeviceProperties(&properties, index));
    names += str(index ? ", " : "", properties.name);
  }
  return {count, names};
}

Stream Stream::cuda(int index) {
  const CudaDevices found = find_cuda_devices();
  check(index >= 0 && index < found.count, ErrorCode::device, [&] {
    return str("device cuda:", index, " asked for, but found ", found.count, " CUDA devices (", found.detail,
               "); use --device cpu or one device a rank");
  });
  cuda_check(cudaSetDevice(index));
  cudaStream_t stream = nullptr;
  // Non-blocking: no hidden ordering against work that a library puts on the legacy default stream.
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return Stream({DeviceKind::cuda, index}, 1, stream);
}

namespace cuda_backend {

void* allocate(int device, int64_t bytes) noexcept {
  void* memory = nullptr;
  if (cudaSetDevice(device) == cudaSuccess && cudaMalloc(&memory, size_t(bytes)) == cudaSuccess) return memory;
  static_cast<void>(cudaGetLastError());
  return nullptr;
}

void release(void* memory) noexcept { static_cast<void>(cudaFree(memory)); }

void destroy_stream(void* handle) noexcept { static_cast<void>(cudaStreamDestroy(static_cast<cudaStream_t>(handle))); }

void synchronize_stream(void* handle) { cuda_check(cudaStreamSynchronize(static_cast<cudaStream_t>(handle))); }

}  // namespace cuda_backend
}  // namespace lockstep
