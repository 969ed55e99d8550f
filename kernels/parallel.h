// SPDX-License-Identifier: Apache-2.0
// Thread parallelism of the CPU backend, in one place: the parts of a fixed partition are spread over the threads of a
// rank.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/thread_team.h"

namespace lockstep::cpu {

// Below this many elements a walk stays on the calling thread: waking others costs more.
inline constexpr int64_t kParallelElements = 1 << 15;

// Calls f(part) for part in [0, parts), each on exactly one of at most `threads` threads. f must not throw.
template <class F>
void parallel_parts(int threads, int64_t parts, const F& f) {
  if (threads == 1 || parts <= 1) {
    for (int64_t part = 0; part < parts; ++part) f(part);
    return;
  }
  struct Work {
    const F& f;
    int64_t parts, members;
  };
  const Work work{f, parts, std::min<int64_t>(threads, parts)};
  ThreadTeam::of_this_thread().run(
      int(work.members),
      [](const void* given, int member) {
        const Work& w = *static_cast<const Work*>(given);
        for (int64_t part = w.parts * member / w.members; part < w.parts * (member + 1) / w.members; ++part) w.f(part);
      },
      &work);
}

// Calls f(begin, end) over a partition of [0, n) whose inner borders are multiples of `grain`.
template <class F>
void parallel_ranges(int threads, int64_t n, int64_t grain, const F& f) {
  const int64_t grains = (n + grain - 1) / grain;
  const int64_t parts = std::min<int64_t>(threads, grains);
  parallel_parts(threads, parts, [&](int64_t part) {
    f(grains * part / parts * grain, std::min(n, grains * (part + 1) / parts * grain));
  });
}

}  // namespace lockstep::cpu
