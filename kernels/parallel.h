// SPDX-License-Identifier: Apache-2.0
// Thread parallelism of the CPU backend, in one place: the parts of a fixed partition are spread over OpenMP threads.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

#if defined(__SANITIZE_THREAD__)
extern "C" {
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#endif

namespace lockstep::cpu {

// Below this many elements a walk stays on the calling thread: waking others costs more.
inline constexpr int64_t kParallelElements = 1 << 15;

// libgomp is not instrumented, so the thread sanitizer is told of fork and join by hand.
class ForkJoin {
 public:
#if defined(__SANITIZE_THREAD__)
  void fork() { __tsan_release(&fork_); }
  void begin() { __tsan_acquire(&fork_); }
  void end() { __tsan_release(&join_); }
  void join() { __tsan_acquire(&join_); }

 private:
  char fork_ = 0, join_ = 0;
#else
  void fork() {}
  void begin() {}
  void end() {}
  void join() {}
#endif
};

// Calls f(part) for part in [0, parts), each on exactly one of at most `threads` threads. f must not throw.
template <class F>
void parallel_parts(int threads, int64_t parts, const F& f) {
  if (threads == 1 || parts <= 1) {
    for (int64_t part = 0; part < parts; ++part) f(part);
    return;
  }
  ForkJoin sync;
  sync.fork();
#pragma omp parallel num_threads(int(std::min <int64_t>(threads, parts)))
  {
    sync.begin();
    const int64_t team = omp_get_num_threads(), member = omp_get_thread_num();
    for (int64_t part = parts * member / team; part < parts * (member + 1) / team; ++part) f(part);
    sync.end();
  }
  sync.join();
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
