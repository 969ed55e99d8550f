// SPDX-License-Identifier: Apache-2.0
// Recorded work of the emulation, by the names of the CUDA runtime: what streams are given between the begin and the
// end of a capture is kept, not run, and run in that order by every launch.
#include <algorithm>
#include <utility>

#include "tests/cuda_emulation/device.h"
#include "tests/cuda_emulation/emulation.h"

using cuda_emulation::Capture;
using cuda_emulation::OrderContext;

struct CUgraph_st {
  std::shared_ptr<Capture> capture;
};

// A graph that can be launched: every stream of the capture is a context of its own again, apart from the origin, whose
// work is that of the stream it is launched on.
struct CUgraphExec_st {
  std::shared_ptr<Capture> capture;
  std::vector<std::unique_ptr<OrderContext>> lanes;
  char begun = 0, lane_done = 0;
  std::shared_ptr<CUgraphExec_st> self;  // until it is destroyed; queued launches hold it too
};

namespace cuda_emulation {
namespace {
// The captures under way in the process.
struct Captures {
  std::mutex mutex;
  std::vector<std::shared_ptr<Capture>> begun;
  uint64_t count = 0;

  static Captures& get();
  void add(const std::shared_ptr<Capture>& capture) {
    const std::lock_guard lock(mutex);
    capture->number = ++count;
    begun.push_back(capture);
  }
  void remove(const std::shared_ptr<Capture>& capture) {
    const std::lock_guard lock(mutex);
    std::erase(begun, capture);
  }
};

// Made before any thread, which the sanitizer could not see of one that is made when it is first asked for: this
// library is not instrumented.
Captures& all_captures = *new Captures;
Captures& Captures::get() { return all_captures; }

void leave_capture(const std::shared_ptr<Capture>& capture) {
  for (CUstream_st* stream : capture->streams) {
    stream->capture = nullptr;
    stream->lane = 0;
  }
  capture->ended = true;
  Captures::get().remove(capture);
}

bool all_joined(const Capture& capture) {
  for (size_t lane = 1; lane < capture.length.size(); ++lane)
    if (capture.joined[lane] < capture.length[lane]) return false;
  return true;
}
}  // namespace

cudaError_t forbid_unsafe_call() {
  Captures& captures = Captures::get();
  const std::lock_guard lock(captures.mutex);
  bool forbidden = false;
  for (const auto& capture : captures.begun) {
    const bool is_mine = capture->thread == std::this_thread::get_id();
    if (capture->mode != cudaStreamCaptureModeGlobal && !(is_mine && capture->mode == cudaStreamCaptureModeThreadLocal))
      continue;
    capture->invalid = forbidden = true;
  }
  return forbidden ? note(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

uint64_t capture_number(cudaStream_t stream) { return stream->capture ? stream->capture->number : 0; }

}  // namespace cuda_emulation

using namespace cuda_emulation;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (stream->capture) return note(cudaErrorIllegalState);
  auto capture = std::make_shared<Capture>();
  capture->origin = stream;
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->streams = {stream};
  capture->length = capture->joined = {0};
  Captures::get().add(capture);
  stream->capture = std::move(capture);
  stream->lane = 0;
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = !stream->capture
                ? cudaStreamCaptureStatusNone
                : (stream->capture->invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  const std::shared_ptr<Capture> capture = stream->capture;
  if (!capture || capture->origin != stream) return note(cudaErrorIllegalState);
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id())
    return note(cudaErrorStreamCaptureWrongThread);
  leave_capture(capture);
  if (capture->invalid) return note(cudaErrorStreamCaptureInvalidated);
  if (!all_joined(*capture)) return note(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{capture};
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  const auto made = std::make_shared<CUgraphExec_st>();
  made->capture = graph->capture;
  made->self = made;
  *exec = made.get();
  for (size_t lane = 0; lane < graph->capture->streams.size(); ++lane)
    (*exec)->lanes.push_back(lane == 0 ? nullptr : std::make_unique<OrderContext>());
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  if (const cudaError_t error = forbid_in_capture(stream); error != cudaSuccess) return error;
  if (const cudaError_t error = Machine::get().broken(stream->device); error != cudaSuccess) return note(error);
  ++counters().graph_launches;
  const auto self = exec->self;
  submit(stream, [self] { release_order(&self->begun); });
  for (const Recorded& recorded : exec->capture->work) {
    auto item = std::make_shared<Item>();
    item->context = stream->context.handle();
    if (recorded.lane > 0) {
      item->context = exec->lanes[recorded.lane]->handle();
      item->before = &exec->begun;
      item->behind = &exec->lane_done;
    }
    item->work = [self, &recorded] { recorded.work(); };
    dispatch(*stream, recorded.is_of_host, std::move(item));
  }
  submit(stream, [self] { acquire_order(&self->lane_done); });
  return note(Machine::get().broken(stream->device));
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  const auto last = std::exchange(exec->self, nullptr);  // queued launches may still hold it
  return cudaSuccess;
}
}
