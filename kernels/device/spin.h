// SPDX-License-Identifier: Apache-2.0
// Tells the processor that a thread waits for another one by looking again and again.
#pragma once

#include <thread>

namespace lockstep {

#if defined(__x86_64__)
inline void pause_between_looks() { __builtin_ia32_pause(); }
#elif defined(__aarch64__)
// What `yield` is for; current Arm cores take it as nothing, and a barrier of instructions as a pause.
inline void pause_between_looks() { asm volatile("isb" ::: "memory"); }
#else
inline void pause_between_looks() { std::this_thread::yield(); }
#endif

}  // namespace lockstep
