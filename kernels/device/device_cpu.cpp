// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "kernels/device/device.h"
#include "kernels/device/memory_backend.h"
#include "kernels/device/view.h"

namespace lockstep {

std::string to_string(Device device) {
  return device.kind == DeviceKind::cpu ? "cpu" : "cuda:" + std::to_string(device.index);
}

std::string to_string(const Shape& shape) {
  std::ostringstream out;
  out << '[';
  for (int i = 0; i < shape.rank(); ++i) out << (i ? ", " : "") << shape[i];
  out << ']';
  return out.str();
}

void fail_dtype(DType expected, DType got) {
  fail(ErrorCode::internal, str("expected dtype ", to_string(expected), ", got ", to_string(got)));
}

Stream Stream::cpu(int threads) { return Stream({DeviceKind::cpu, 0}, std::max(1, threads), nullptr); }

Stream::Stream(Stream&& other) noexcept
    : device_(other.device_),
      threads_(other.threads_),
      handle_(std::exchange(other.handle_, nullptr)),
      states_(std::move(other.states_)) {}

Stream::~Stream() {
  states_.clear();
  if (handle_) cuda_backend::destroy_stream(handle_);
}

void Stream::synchronize() {
  if (handle_) cuda_backend::synchronize_stream(handle_);
}

void* cpu_backend::allocate(int64_t bytes) noexcept { return std::aligned_alloc(64, size_t((bytes + 63) / 64 * 64)); }
void cpu_backend::release(void* memory) noexcept { std::free(memory); }

}  // namespace lockstep
