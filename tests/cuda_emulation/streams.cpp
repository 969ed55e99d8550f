// SPDX-License-Identifier: Apache-2.0
// Streams, events, copies and kernel launches of the emulation, by the names of the CUDA runtime.
#include <cstring>
#include <string>
#include <utility>

#include "tests/cuda_emulation/device.h"
#include "tests/cuda_emulation/emulation.h"
#include "tests/cuda_emulation/grid.h"

namespace cuda_emulation {

void run_as(void* context, const void* before, const void* after, const std::function<void()>& work) {
  void* const host = current_context();
  release_order(before);
  enter_context(context);
  acquire_order(before);
  work();
  release_order(after);
  enter_context(host);
}

cudaError_t submit(cudaStream_t stream, std::function<void()> work) {
  if (stream == nullptr) return note(cudaErrorInvalidResourceHandle);  // nothing here uses the legacy default stream
  if (const cudaError_t error = Machine::get().broken(stream->device); error != cudaSuccess) return note(error);
  if (const std::shared_ptr<Capture>& capture = stream->capture) {
    if (capture->invalid) return note(cudaErrorStreamCaptureInvalidated);
    ++capture->length[stream->lane];
    capture->work.push_back({stream->lane, std::move(work)});
    return cudaSuccess;
  }
  run_as(stream->context.handle(), &stream->submitted, &stream->done, work);
  return note(Machine::get().broken(stream->device));
}

cudaError_t forbid_in_capture(cudaStream_t stream) {
  if (stream && stream->capture) {
    stream->capture->invalid = true;
    return note(cudaErrorStreamCaptureUnsupported);
  }
  return cudaSuccess;
}

namespace {

bool launchable(const Launch& launch) {
  const auto positive = [](const dim3& size) { return size.x > 0 && size.y > 0 && size.z > 0; };
  const dim3 &grid = launch.grid, &block = launch.block;
  return positive(grid) && positive(block) && uint64_t(block.x) * block.y * block.z <= 1024 && block.z <= 64 &&
         grid.x <= 2147483647u && grid.y <= 65535 && grid.z <= 65535 && launch.shared_bytes <= 227 * 1024;
}

void run_grid(const Launch& launch, const std::function<void()>& body, int device) {
  Grid grid(launch, body);
  Grid* const outer = std::exchange(current_grid(), &grid);
  const std::string failure = grid.run();
  current_grid() = outer;
  if (!failure.empty()) Machine::get().break_device(device, cudaErrorLaunchFailure, failure);
}

// Copies as the stream; what the driver does by itself with ordinary memory of the host, as the host.
cudaError_t copy(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  const bool from_pageable = Machine::get().find(from) == nullptr, to_pageable = Machine::get().find(to) == nullptr;
  if ((from_pageable || to_pageable) && stream->capture) return forbid_in_capture(stream);
  if (from_pageable) {
    const auto* first = static_cast<const char*>(from);
    auto staged = std::make_shared<std::vector<char>>(first, first + bytes);
    return submit(stream, [=] { std::memcpy(to, staged->data(), bytes); });
  }
  const cudaError_t error = submit(stream, [=] { std::memcpy(to, from, bytes); });
  if (to_pageable) acquire_order(&stream->done);
  return error;
}

}  // namespace

cudaError_t launch(const Launch& launch, cudaStream_t stream, std::function<void()> body) {
  if (!launchable(launch)) return note(cudaErrorInvalidConfiguration);
  if (stream && stream->device != current_device()) return note(cudaErrorInvalidResourceHandle);
  return submit(stream, [launch, body = std::move(body), device = stream ? stream->device : 0] {
    ++counters().launches;
    run_grid(launch, body, device);
  });
}

}  // namespace cuda_emulation

using namespace cuda_emulation;

extern "C" {

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  if (current_device() >= Machine::get().devices()) return note(cudaErrorNoDevice);
  *stream = new CUstream_st;
  (*stream)->device = current_device();
  Machine::get().add(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Machine::get().remove(stream);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamGetDevice(cudaStream_t stream, int* device) {
  *device = stream->device;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const cudaError_t error = forbid_in_capture(stream); error != cudaSuccess) return error;
  ++counters().synchronizations;
  acquire_order(&stream->done);
  return note(Machine::get().broken(stream->device));
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (const cudaError_t error = forbid_in_capture(stream); error != cudaSuccess) return error;
  acquire_order(&stream->done);
  return note(Machine::get().broken(stream->device));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st;
  (*event)->device = current_device();
  (*event)->timed = !(flags & cudaEventDisableTiming);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (event->device != stream->device) return note(cudaErrorInvalidResourceHandle);
  event->recorded = true;
  event->when = std::chrono::steady_clock::now();
  const cudaError_t error = submit(stream, [event] { release_order(&event->mark); });
  event->capture = stream->capture;
  if (stream->capture) {
    event->lane = stream->lane;
    event->position = stream->capture->length[stream->lane];
  }
  return error;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (!event->recorded) return cudaSuccess;
  if (const std::shared_ptr<Capture>& capture = event->capture) {
    if (!stream->capture) {  // a stream joins the capture by waiting for it
      stream->capture = capture;
      stream->lane = capture->streams.size();
      capture->streams.push_back(stream);
      capture->length.push_back(0);
      capture->joined.push_back(0);
    }
    if (stream->capture != capture) return note(cudaErrorStreamCaptureMerge);
    if (stream == capture->origin) capture->joined[event->lane] = event->position;
  }
  return submit(stream, [event] { acquire_order(&event->mark); });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->capture && !event->capture->invalid && event->capture.use_count() > 1) return note(cudaErrorCapturedEvent);
  ++counters().synchronizations;
  acquire_order(&event->mark);
  return note(Machine::get().broken(event->device));
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  acquire_order(&event->mark);
  return note(Machine::get().broken(event->device));
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (!begin->timed || !end->timed || !begin->recorded || !end->recorded) return note(cudaErrorInvalidResourceHandle);
  *milliseconds = std::chrono::duration<float, std::milli>(end->when - begin->when).count();
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return copy(to, from, bytes, stream);
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  return submit(stream, [=] { std::memset(memory, value, bytes); });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return submit(stream, [=] { function(data); });
}
}
