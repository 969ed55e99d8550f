// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>

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

Stream Stream::rehearsal(int threads) {
  Stream stream = cpu(threads);
  stream.rehearses_ = true;
  return stream;
}

Stream::Stream(Stream&& other) noexcept
    : device_(other.device_),
      rehearses_(other.rehearses_),
      kernel_times_(other.kernel_times_),
      threads_(other.threads_),
      handle_(std::exchange(other.handle_, nullptr)),
      scratch_(std::exchange(other.scratch_, nullptr)),
      scratch_bytes_(std::exchange(other.scratch_bytes_, 0)),
      states_(std::move(other.states_)) {}

Stream::~Stream() {
  states_.clear();
  release_scratch();
  if (handle_) cuda_backend::destroy_stream(handle_);
}

void Stream::synchronize() {
  if (handle_) cuda_backend::synchronize_stream(handle_);
}

bool Stream::idle() const { return !handle_ || cuda_backend::stream_is_idle(handle_); }

void Stream::wait(const Event& event) {
  if (handle_ && event.handle()) cuda_backend::stream_wait(handle_, event.handle());
}

Event::Event(Device device, Timing timing) : device_(device) {
  if (device.kind == DeviceKind::cuda) handle_ = cuda_backend::create_event(device.index, timing == Timing::on);
}

Event::~Event() {
  if (handle_) cuda_backend::destroy_event(handle_);
}

void Event::record(Stream& stream) {
  if (handle_) cuda_backend::record_event(handle_, stream.handle());
}

bool Event::reached() const { return !handle_ || cuda_backend::event_is_reached(handle_); }

void Event::synchronize() {
  if (handle_) cuda_backend::synchronize_event(handle_);
}

double Event::seconds_since(const Event& begin) const { return cuda_backend::seconds_between(begin.handle_, handle_); }

void Stream::grow_scratch(int64_t bytes) {
  if (!rehearses_) {
    synchronize();  // queued work may still use the old piece
    release_scratch();
    scratch_ = static_cast<std::byte*>(device_.kind == DeviceKind::cpu ? cpu_backend::allocate(bytes)
                                                                       : cuda_backend::allocate(device_.index, bytes));
    check(scratch_ != nullptr, ErrorCode::device, [&] {
      return str("out of memory on ", to_string(device_), ": a kernel asked for ", bytes,
                 " bytes of scratch; use a smaller batch or model, or more ranks");
    });
  }
  scratch_bytes_ = bytes;
}

void Stream::release_scratch() noexcept {
  if (scratch_) device_.kind == DeviceKind::cpu ? cpu_backend::release(scratch_) : cuda_backend::release(scratch_);
  scratch_ = nullptr;
  scratch_bytes_ = 0;
}

void* cpu_backend::allocate(int64_t bytes) noexcept { return std::aligned_alloc(64, size_t((bytes + 63) / 64 * 64)); }
void cpu_backend::release(void* memory) noexcept { std::free(memory); }

void* address_space::reserve(int64_t bytes) noexcept {
  void* addresses = mmap(nullptr, size_t(bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return addresses == MAP_FAILED ? nullptr : addresses;
}
void address_space::release(void* addresses, int64_t bytes) noexcept { munmap(addresses, size_t(bytes)); }

}  // namespace lockstep
