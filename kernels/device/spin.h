// SPDX-License-Identifier: Apache-2.0
// Tells the processor that a thread waits for another one by looking again and again.
#pragma once

#include <thread>

namespace lockstep {

#if defined(__x86_64__)
inline void pause_between_looks() { __builtin_ia32_pause(); }
#else
inline void pause_between_looks() { std::this_thread::yield(); }
#endif

}  // namespace lockstep
