// SPDX-License-Identifier: Apache-2.0
// Recorded work of the emulation, by the names of the CUDA runtime: what streams are given between the begin and the
// end of a capture is kept, not run, and run in that order by every launch.
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
};

namespace cuda_emulation {
namespace {
thread_local int captures = 0;  // that this thread has begun and not ended

void leave_capture(Capture& capture) {
  for (CUstream_st* stream : capture.streams) {
    stream->capture = nullptr;
    stream->lane = 0;
  }
  --captures;
}

bool all_joined(const Capture& capture) {
  for (size_t lane = 1; lane < capture.length.size(); ++lane)
    if (capture.joined[lane] < capture.length[lane]) return false;
  return true;
}
}  // namespace

bool thread_is_capturing() { return captures > 0; }

}  // namespace cuda_emulation

using namespace cuda_emulation;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream->capture) return note(cudaErrorIllegalState);
  auto capture = std::make_shared<Capture>();
  capture->origin = stream;
  capture->streams = {stream};
  capture->length = capture->joined = {0};
  stream->capture = std::move(capture);
  stream->lane = 0;
  ++captures;
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
  leave_capture(*capture);
  if (capture->invalid) return note(cudaErrorStreamCaptureInvalidated);
  if (!all_joined(*capture)) return note(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{capture};
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{.capture = graph->capture, .lanes = {}};
  for (size_t lane = 0; lane < graph->capture->streams.size(); ++lane)
    (*exec)->lanes.push_back(lane == 0 ? nullptr : std::make_unique<OrderContext>());
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  if (const cudaError_t error = forbid_in_capture(stream); error != cudaSuccess) return error;
  if (const cudaError_t error = Machine::get().broken(stream->device); error != cudaSuccess) return note(error);
  ++counters().graph_launches;
  submit(stream, [exec] { release_order(&exec->begun); });
  for (const Recorded& recorded : exec->capture->work) {
    if (recorded.lane == 0) {
      submit(stream, recorded.work);
    } else {
      run_as(exec->lanes[recorded.lane]->handle(), &exec->begun, &exec->lane_done, recorded.work);
    }
  }
  submit(stream, [exec] { acquire_order(&exec->lane_done); });
  return note(Machine::get().broken(stream->device));
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
}
