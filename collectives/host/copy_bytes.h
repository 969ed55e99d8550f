// SPDX-License-Identifier: Apache-2.0
// Copies bytes of views that may be empty: memcpy forbids null pointers even for zero bytes.
#pragma once

#include <cstdint>
#include <cstring>

namespace lockstep {

inline void copy_bytes(void* to, const void* from, int64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, size_t(bytes));
}

}  // namespace lockstep
