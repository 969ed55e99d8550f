// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/graph.h"

#include "kernels/device/check.h"
#include "kernels/device/memory_backend.h"

namespace lockstep {

void Graph::begin(Stream& stream) {
  check(stream.handle() != nullptr, ErrorCode::device,
        "a graph records the work of a GPU, and this stream runs on the CPU; leave --graph out");
  cuda_backend::begin_capture(stream.handle());
}

void* Graph::end(Stream& stream) { return cuda_backend::end_capture(stream.handle()); }
void Graph::abandon(Stream& stream) noexcept { cuda_backend::abandon_capture(stream.handle()); }

Graph::~Graph() {
  if (handle_) cuda_backend::destroy_graph(handle_);
}

void Graph::launch(Stream& stream) { cuda_backend::launch_graph(handle_, stream.handle()); }

}  // namespace lockstep
