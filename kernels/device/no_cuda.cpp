// SPDX-License-Identifier: Apache-2.0
// The CUDA half of the device layer in a build without CUDA: no devices, and a clear error.
#include "kernels/device/check.h"
#include "kernels/device/device.h"
#include "kernels/device/gpu_report.h"
#include "kernels/device/memory_backend.h"

namespace lockstep {

CudaDevices find_cuda_devices() { return {{}, "this build has no CUDA backend (configure with -DLOCKSTEP_CUDA=ON)"}; }
CudaVersions cuda_versions() { return {}; }
std::vector<GpuReport> report_gpus() { return {}; }

Stream Stream::cuda(int index, bool) {
  fail(ErrorCode::device, str("device cuda:", index, " asked for, but ", find_cuda_devices().detail));
}

// None of this is ever reached: it takes a CUDA stream, and that takes a device.
namespace cuda_backend {
void* allocate(int, int64_t) noexcept { return nullptr; }
void release(void*) noexcept {}
void* allocate_pinned(int64_t) noexcept { return nullptr; }
void release_pinned(void*) noexcept {}
void destroy_stream(void*) noexcept {}
void synchronize_stream(void*) {}
bool stream_is_idle(void*) { return true; }
void stream_wait(void*, void*) {}
void* create_event(int, bool) { return nullptr; }
void destroy_event(void*) noexcept {}
void record_event(void*, void*) {}
bool event_is_reached(void*) { return true; }
void synchronize_event(void*) {}
double seconds_between(void*, void*) { return 0; }
void copy(void*, void*, const void*, int64_t) {}
void clear(void*, void*, int64_t) {}
void begin_capture(void*) {}
void* end_capture(void*) { return nullptr; }
void abandon_capture(void*) noexcept {}
void launch_graph(void*, void*) {}
void destroy_graph(void*) noexcept {}
}  // namespace cuda_backend

}  // namespace lockstep
