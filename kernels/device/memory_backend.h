// SPDX-License-Identifier: Apache-2.0
// The few primitive calls per device that pool and stream are built on. Internal to kernels/device.
#pragma once

#include <cstdint>

namespace lockstep::cpu_backend {
void* allocate(int64_t bytes) noexcept;  // 64-byte aligned; null when memory runs out
void release(void* memory) noexcept;
}  // namespace lockstep::cpu_backend

// Addresses without memory: touching one ends the program.
namespace lockstep::address_space {
void* reserve(int64_t bytes) noexcept;  // null when addresses run out
void release(void* addresses, int64_t bytes) noexcept;
}  // namespace lockstep::address_space

namespace lockstep::cuda_backend {
void* allocate(int device, int64_t bytes) noexcept;  // null when device memory runs out
void release(void* memory) noexcept;
void* allocate_pinned(int64_t bytes) noexcept;  // memory of the host; null when it runs out
void release_pinned(void* memory) noexcept;
void destroy_stream(void* handle) noexcept;
void synchronize_stream(void* handle);
bool stream_is_idle(void* handle);
void stream_wait(void* stream, void* event);
void* create_event(int device, bool timed);
void destroy_event(void* event) noexcept;
void record_event(void* event, void* stream);
bool event_is_reached(void* event);
void synchronize_event(void* event);
double seconds_between(void* begin, void* end);
void copy(void* stream, void* to, const void* from,
          int64_t bytes);                               // queues a copy between host and device or within it
void clear(void* stream, void* memory, int64_t bytes);  // queues a fill with zero bytes
// From begin_capture() on, what is queued on `stream`, and on other streams that wait for it, is recorded and not run.
// end_capture() returns the recorded graph.
void begin_capture(void* stream);
void* end_capture(void* stream);
void abandon_capture(void* stream) noexcept;
void launch_graph(void* graph, void* stream);
void destroy_graph(void* graph) noexcept;
}  // namespace lockstep::cuda_backend
