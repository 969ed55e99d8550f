// SPDX-License-Identifier: Apache-2.0
// What all ranks of a job on one machine know about its end, in memory that they share.
#pragma once

#include <atomic>
#include <cstdint>

namespace lockstep {

struct JobControl {
  std::atomic<int32_t> ended_by{0};        // 1 + the rank that ended the job
  std::atomic<int32_t> report_claimed{0};  // 1 + the rank that prints why
  std::atomic<int32_t> reported{0};        // the claiming rank has printed
};
static_assert(std::atomic<int32_t>::is_always_lock_free && std::atomic<uint64_t>::is_always_lock_free,
              "atomics between processes must be free of locks");

// Sets the mark of `rank` if no other rank has set it; true for the rank that did.
inline bool claim(std::atomic<int32_t>& mark, int rank) {
  int32_t nobody = 0;
  return mark.compare_exchange_strong(nobody, rank + 1);
}

}  // namespace lockstep
