// SPDX-License-Identifier: Apache-2.0
// Copies tables of the host to memory of a device.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/device/memory.h"
#include "kernels/device/transfer.h"

namespace lockstep {

// Returns a copy of `values` in memory of the pool's device, counted as scratch. The copy is queued: `values` must stay
// until `stream` is through.
template <class T>
Buffer upload(const std::vector<T>& values, Pool& pool, Stream& stream) {
  const auto bytes = int64_t(values.size() * sizeof(T));
  Buffer buffer(pool, std::max<int64_t>(bytes, 1), Purpose::scratch);
  copy(stream, buffer.data(), values.data(), bytes);
  return buffer;
}

}  // namespace lockstep
