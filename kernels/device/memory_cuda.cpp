// SPDX-License-Identifier: Apache-2.0
// Memory, copies and graphs of the CUDA backend.
#include "kernels/device/cuda_check.h"
#include "kernels/device/memory_backend.h"

namespace lockstep::cuda_backend {
namespace {
cudaStream_t stream_of(void* handle) { return static_cast<cudaStream_t>(handle); }
}  // namespace

void* allocate(int device, int64_t bytes) noexcept {
  void* memory = nullptr;
  if (cudaSetDevice(device) == cudaSuccess && cudaMalloc(&memory, size_t(bytes)) == cudaSuccess) return memory;
  static_cast<void>(cudaGetLastError());
  return nullptr;
}

void release(void* memory) noexcept { static_cast<void>(cudaFree(memory)); }

void* allocate_pinned(int64_t bytes) noexcept {
  void* memory = nullptr;
  if (cudaMallocHost(&memory, size_t(bytes)) == cudaSuccess) return memory;
  static_cast<void>(cudaGetLastError());
  return nullptr;
}

void release_pinned(void* memory) noexcept { static_cast<void>(cudaFreeHost(memory)); }

void copy(void* stream, void* to, const void* from, int64_t bytes) {
  cuda_check(cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyDefault, stream_of(stream)));
}

void clear(void* stream, void* memory, int64_t bytes) {
  cuda_check(cudaMemsetAsync(memory, 0, size_t(bytes), stream_of(stream)));
}

void begin_capture(void* stream) {
  // Only this thread captures: other ranks of the process go on with what a capture forbids.
  cuda_check(cudaStreamBeginCapture(stream_of(stream), cudaStreamCaptureModeThreadLocal));
}

void* end_capture(void* stream) {
  cudaGraph_t recorded = nullptr;
  cuda_check(cudaStreamEndCapture(stream_of(stream), &recorded));
  cudaGraphExec_t graph = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&graph, recorded, 0);
  static_cast<void>(cudaGraphDestroy(recorded));
  cuda_check(status);
  return graph;
}

void abandon_capture(void* stream) noexcept {
  cudaGraph_t recorded = nullptr;
  static_cast<void>(cudaStreamEndCapture(stream_of(stream), &recorded));
  if (recorded) static_cast<void>(cudaGraphDestroy(recorded));
  static_cast<void>(cudaGetLastError());
}

void launch_graph(void* graph, void* stream) {
  cuda_check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream_of(stream)));
}

void destroy_graph(void* graph) noexcept {
  static_cast<void>(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)));
}

}  // namespace lockstep::cuda_backend
