// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/transfer.h"

#include <cstring>

#include "kernels/device/memory_backend.h"

namespace lockstep {

PinnedBuffer::PinnedBuffer(Device device, int64_t bytes) : device_(device), bytes_(bytes) {
  data_ = device.kind == DeviceKind::cpu ? cpu_backend::allocate(bytes) : cuda_backend::allocate_pinned(bytes);
  check(data_ != nullptr, ErrorCode::device, [&] {
    return str("out of host memory: asked for ", bytes, " bytes that ", to_string(device),
               " can copy from; use a smaller batch or fewer ranks on this machine");
  });
}

PinnedBuffer::~PinnedBuffer() {
  if (data_) device_.kind == DeviceKind::cpu ? cpu_backend::release(data_) : cuda_backend::release_pinned(data_);
}

void copy(Stream& stream, const View& to, const ConstView& from) {
  check(to.bytes() == from.bytes(), ErrorCode::internal,
        [&] { return str("copy: expected ", to.bytes(), " bytes to fill the target, got ", from.bytes()); });
  if (from.bytes() == 0) return;
  if (stream.handle()) {
    cuda_backend::copy(stream.handle(), to.data, from.data, from.bytes());
  } else {
    std::memcpy(to.data, from.data, size_t(from.bytes()));
  }
}

void clear(Stream& stream, const View& view) {
  if (view.bytes() == 0) return;
  if (stream.handle()) {
    cuda_backend::clear(stream.handle(), view.data, view.bytes());
  } else {
    std::memset(view.data, 0, size_t(view.bytes()));
  }
}

}  // namespace lockstep
