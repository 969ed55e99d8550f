// SPDX-License-Identifier: Apache-2.0
// Devices, streams and events of the CUDA backend.
#include <utility>

#include "kernels/device/check.h"
#include "kernels/device/cuda_check.h"
#include "kernels/device/device.h"
#include "kernels/device/memory_backend.h"

namespace lockstep {
namespace {

CudaDevice describe(int index) {
  cudaDeviceProp properties;
  cuda_check(cudaGetDeviceProperties(&properties, index));
  char bus_id[32] = "";
  cuda_check(cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, index));
  return {.name = properties.name,
          .bus_id = bus_id,
          .major = properties.major,
          .minor = properties.minor,
          .memory_bytes = int64_t(properties.totalGlobalMem),
          .l2_bytes = properties.l2CacheSize,
          .processors = properties.multiProcessorCount};
}

cudaStream_t stream_of(void* handle) { return static_cast<cudaStream_t>(handle); }
cudaEvent_t event_of(void* handle) { return static_cast<cudaEvent_t>(handle); }

// "not ready" is an answer and not an error.
bool is_done(cudaError_t status) {
  if (status == cudaErrorNotReady) return false;
  cuda_check(status);
  return true;
}

}  // namespace

CudaDevices find_cuda_devices() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    static_cast<void>(cudaGetLastError());
    return {{},
            status == cudaSuccess ? "this machine has no CUDA device"
                                  : str("this machine has no usable CUDA device: ", cudaGetErrorString(status))};
  }
  CudaDevices found;
  for (int index = 0; index < count; ++index) {
    found.devices.push_back(describe(index));
    found.detail += str(index ? ", " : "", found.devices.back().name);
  }
  return found;
}

CudaVersions cuda_versions() {
  CudaVersions versions;
  if (cudaRuntimeGetVersion(&versions.runtime) != cudaSuccess || cudaDriverGetVersion(&versions.driver) != cudaSuccess)
    static_cast<void>(cudaGetLastError());
  return versions;
}

Stream Stream::cuda(int index, bool urgent) {
  const CudaDevices found = find_cuda_devices();
  check(index >= 0 && index < found.count(), ErrorCode::device, [&] {
    return str("device cuda:", index, " asked for, but found ", found.count(), " CUDA devices (", found.detail,
               "); use --device cpu or one device a rank");
  });
  cuda_check(cudaSetDevice(index));
  int least = 0, greatest = 0;
  cuda_check(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  cudaStream_t stream = nullptr;
  // Non-blocking: no hidden ordering against work that a library puts on the legacy default stream.
  cuda_check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, urgent ? greatest : least));
  return Stream({DeviceKind::cuda, index}, 1, stream);
}

namespace cuda_backend {

void destroy_stream(void* handle) noexcept { static_cast<void>(cudaStreamDestroy(stream_of(handle))); }
void synchronize_stream(void* handle) { cuda_check(cudaStreamSynchronize(stream_of(handle))); }
bool stream_is_idle(void* handle) { return is_done(cudaStreamQuery(stream_of(handle))); }
void stream_wait(void* stream, void* event) { cuda_check(cudaStreamWaitEvent(stream_of(stream), event_of(event), 0)); }

void* create_event(int device, bool timed) {
  cudaEvent_t event = nullptr;
  cuda_check(cudaSetDevice(device));
  cuda_check(cudaEventCreateWithFlags(&event, timed ? cudaEventDefault : cudaEventDisableTiming));
  return event;
}

void destroy_event(void* event) noexcept { static_cast<void>(cudaEventDestroy(event_of(event))); }
void record_event(void* event, void* stream) { cuda_check(cudaEventRecord(event_of(event), stream_of(stream))); }
bool event_is_reached(void* event) { return is_done(cudaEventQuery(event_of(event))); }
void synchronize_event(void* event) { cuda_check(cudaEventSynchronize(event_of(event))); }

double seconds_between(void* begin, void* end) {
  float milliseconds = 0;
  cuda_check(cudaEventElapsedTime(&milliseconds, event_of(begin), event_of(end)));
  return double(milliseconds) * 1e-3;
}

}  // namespace cuda_backend
}  // namespace lockstep
