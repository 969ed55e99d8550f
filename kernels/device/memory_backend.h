// SPDX-License-Identifier: Apache-2.0
// The few primitive calls per device on which pool and stream stand. Internal to kernels/device.
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
void destroy_stream(void* handle) noexcept;
void synchronize_stream(void* handle);
}  // namespace lockstep::cuda_backend
