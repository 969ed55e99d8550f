// SPDX-License-Identifier: Apache-2.0
// Stacks that a CUDA thread runs on until it has to wait for others.
#pragma once

#include <cstddef>
#include <functional>

namespace cuda_emulation {

// A stack and where it left off; or the OS thread's own stack, which starts fibers and is come back to.
struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  size_t bytes = 0;
  void* fake_stack = nullptr;     // of the address sanitizer
  void* order_context = nullptr;  // of the thread sanitizer; null: runs as whoever switched to it
  bool owns_context = false;
};

// A fiber that begins in `entry`, which never returns. Throws std::bad_alloc.
Fiber* make_fiber(void (*entry)(), bool own_context);
void destroy_fiber(Fiber* fiber) noexcept;
// Gives the thread sanitizer its context back, the stack stays.
void destroy_context(Fiber& fiber) noexcept;

// Leaves `from` and goes on in `to`. `for_good`: `from` is never come back to.
void switch_fiber(Fiber& from, Fiber& to, bool for_good = false);
// The stack that fibers are entered from and come back to, from here on, on the calling OS thread.
void start_from(Fiber& main);
// First thing in a fiber that was just made.
void arrive(Fiber& now);

// Runs `work` on a stack that belongs to the current context, where the thread sanitizer watches: it would take two
// contexts that use the stack of one OS thread for a race. `work` calls no CUDA.
void run_on_own_stack(const std::function<void()>& work);

}  // namespace cuda_emulation
