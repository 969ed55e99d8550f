// SPDX-License-Identifier: Apache-2.0
// Streams, events, copies and kernel launches of the emulation, by the names of the CUDA runtime.
#include <cstring>
#include <string>
#include <utility>

#include "tests/cuda_emulation/device.h"
#include "tests/cuda_emulation/emulation.h"
#include "tests/cuda_emulation/fiber.h"
#include "tests/cuda_emulation/grid.h"

namespace cuda_emulation {

void dispatch(CUstream_st& stream, bool is_of_host, std::shared_ptr<Item> item) {
  if (is_of_host || !stream.backlog->empty() || (item->after && !item->after->reached))
    return stream.backlog->add(std::move(item));
  release_order(item->mark_before());
  item->run(&stream.backlog->done);
}

cudaError_t submit(cudaStream_t stream, std::function<void()> work, bool is_of_host, Marks marks) {
  if (stream == nullptr) return note(cudaErrorInvalidResourceHandle);  // nothing here uses the legacy default stream
  if (const cudaError_t error = Machine::get().broken(stream->device); error != cudaSuccess) return note(error);
  if (const std::shared_ptr<Capture>& capture = stream->capture) {
    if (capture->invalid) return note(cudaErrorStreamCaptureInvalidated);
    ++capture->length[stream->lane];
    capture->work.push_back({stream->lane, is_of_host, std::move(work)});
    return cudaSuccess;
  }
  auto item = std::make_shared<Item>();
  item->context = stream->context.handle();
  item->after = std::move(marks.after);
  item->reaches = std::move(marks.reaches);
  item->work = std::move(work);
  dispatch(*stream, is_of_host, std::move(item));
  return note(Machine::get().broken(stream->device));
}

cudaError_t forbid_in_capture(cudaStream_t stream) {
  if (stream && stream->capture) {
    stream->capture->invalid = true;
    return note(cudaErrorStreamCaptureUnsupported);
  }
  return cudaSuccess;
}

void wait_for(const CUstream_st& stream) {
  stream.backlog->drain();
  acquire_order(&stream.backlog->done);
}

namespace {

bool only_copies(const CUstream_st& stream) { return !stream.urgent && !stream.computes; }

bool is_ignored(const CUstream_st& stream, const CUevent_st& event) {
  switch (options().ignored_waits) {
    case Waits::none:
      return false;
    case Waits::of_urgent_streams:
      return stream.urgent;
    case Waits::of_other_streams:
      return !stream.urgent;
    case Waits::of_copies:
      return only_copies(stream);
    case Waits::for_copies:
      return event.of_copies;
  }
  return false;
}

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
    return submit(stream, [=] {
      std::memcpy(to, staged->data(), bytes);
      std::vector<char>().swap(*staged);  // by whoever has read it
    });
  }
  const cudaError_t error = submit(stream, [=] { std::memcpy(to, from, bytes); });
  if (to_pageable) wait_for(*stream);
  return error;
}

// The host cannot ask how far an event has come that was last recorded in a capture, for it has not run.
cudaError_t forbid_captured(cudaEvent_t event) {
  if (!event->capture) return forbid_unsafe_call();
  event->capture->invalid = true;
  return note(cudaErrorCapturedEvent);
}

}  // namespace

cudaError_t launch(const Launch& launch, cudaStream_t stream, std::function<void()> body) {
  if (!launchable(launch)) return note(cudaErrorInvalidConfiguration);
  if (stream && stream->device != current_device()) return note(cudaErrorInvalidResourceHandle);
  if (stream) stream->computes = true;
  const std::shared_ptr<const std::function<void()>> kept(new std::function<void()>(std::move(body)),
                                                          [](auto* held) { delete_unordered(held); });
  return submit(stream, [launch, kept, device = stream ? stream->device : 0] {
    ++counters().launches;
    run_grid(launch, *kept, device);
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

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int priority) {
  if (current_device() >= Machine::get().devices()) return note(cudaErrorNoDevice);
  *stream = new CUstream_st;
  (*stream)->device = current_device();
  (*stream)->urgent = priority < 0;
  Machine::get().add(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  stream->backlog->drain();
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
  if (const cudaError_t error = forbid_unsafe_call(); error != cudaSuccess) return error;
  ++counters().synchronizations;
  wait_for(*stream);
  return note(Machine::get().broken(stream->device));
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (const cudaError_t error = forbid_in_capture(stream); error != cudaSuccess) return error;
  if (const cudaError_t error = forbid_unsafe_call(); error != cudaSuccess) return error;
  if (!stream->backlog->empty()) return cudaErrorNotReady;
  wait_for(*stream);
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
  event->mark = std::make_shared<Mark>();
  event->of_copies = only_copies(*stream);
  const cudaError_t error =
      submit(stream, [mark = event->mark] { release_order(&mark->order); }, false, {.reaches = event->mark});
  event->capture = stream->capture;
  if (stream->capture) {
    event->lane = stream->lane;
    event->position = stream->capture->length[stream->lane];
  }
  return error;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (!event->mark) return cudaSuccess;
  if (is_ignored(*stream, *event)) return cudaSuccess;
  // Only the order of a stream crosses the border of a capture: none of its streams waits for what was recorded before
  // it, and nobody waits for what was recorded in one that is over.
  if ((event->capture && event->capture->ended) || (stream->capture && !event->capture)) {
    if (stream->capture) stream->capture->invalid = true;
    return note(cudaErrorStreamCaptureIsolation);
  }
  if (const std::shared_ptr<Capture>& capture = event->capture) {
    if (!stream->capture) {  // a stream joins the capture by waiting for it
      stream->capture = capture;
      stream->lane = capture->streams.size();
      capture->streams.push_back(stream);
      capture->length.push_back(0);
      capture->joined.push_back(0);
    }
    if (stream->capture != capture) {
      stream->capture->invalid = capture->invalid = true;
      return note(cudaErrorStreamCaptureMerge);
    }
    if (stream == capture->origin) capture->joined[event->lane] = event->position;
  }
  const std::shared_ptr<Mark> mark = event->mark;
  return submit(stream, [mark] { acquire_order(&mark->order); }, false, {.after = mark});
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (const cudaError_t error = forbid_captured(event); error != cudaSuccess) return error;
  ++counters().synchronizations;
  if (event->mark) {
    event->mark->wait();
    acquire_order(&event->mark->order);
  }
  return note(Machine::get().broken(event->device));
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (const cudaError_t error = forbid_captured(event); error != cudaSuccess) return error;
  if (event->mark && !event->mark->reached) return cudaErrorNotReady;
  if (event->mark) acquire_order(&event->mark->order);
  return note(Machine::get().broken(event->device));
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (!begin->timed || !end->timed || !begin->mark || !end->mark) return note(cudaErrorInvalidResourceHandle);
  if (!begin->mark->reached || !end->mark->reached) return cudaErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(end->mark->when - begin->mark->when).count();
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return copy(to, from, bytes, stream);
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  return submit(stream, [=] { std::memset(memory, value, bytes); });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return submit(
      stream, [=] { run_on_own_stack([=] { function(data); }); }, true);
}
}
