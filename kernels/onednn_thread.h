// SPDX-License-Identifier: Apache-2.0
// What a thread needs that calls oneDNN. The library spreads over as many threads as OpenMP would start, but our
// partition already has its threads; and its products use the stack pointer as an ordinary register, which may point
// into the heap when a signal arrives.
#pragma once

#include <omp.h>

namespace lockstep::onednn {

// Gives the calling thread a stack for signal handlers, unless it has one; it is the thread's until it ends. A handler
// installed with SA_ONSTACK runs there. Without it the kernel would write the handler's frame wherever a product's
// stack pointer points, over what the heap has there.
void keep_signal_stack();

// While it lives, OpenMP regions opened by the calling thread have one thread, and signals have a stack.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) {
    keep_signal_stack();
    omp_set_num_threads(1);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  int before_;
};

}  // namespace lockstep::onednn
