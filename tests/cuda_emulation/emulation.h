// SPDX-License-Identifier: Apache-2.0
// The emulated device: CUDA kernels run on the CPU as fibers, under the sanitizers that watch the rest of the program.
// For tests only. Work runs at once, in the order of the program, on the thread that queues it, except for functions of
// the host (cudaLaunchHostFunc) and what comes behind them: a thread of the stream runs those, for collectives wait for
// other ranks there. The thread sanitizer is told only of the order that CUDA promises, so that a missing event or
// barrier is a race that it reports.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>

namespace cuda_emulation {

// In which order blocks, and threads that can go on, are picked. Right kernels give the same bits in each.
enum class Order { forward, reverse, random };

// Waits for events that are left out, as if the program had forgotten them: a mutation that its tests have to notice.
// Copies are what streams do that are not urgent and have never been given a kernel.
enum class Waits { none, of_urgent_streams, of_other_streams, of_copies, for_copies };

// Of the calling OS thread.
struct Options {
  Order order = Order::forward;  // LOCKSTEP_EMULATED_ORDER=reverse|random sets the default
  uint64_t seed = 1;
  // Under the thread sanitizer: every CUDA thread is a context of its own, so that races inside of kernels are found.
  // It costs about a millisecond for each; without it a kernel counts as one piece of its stream's work.
  // LOCKSTEP_EMULATED_THREAD_RACES=1 sets the default.
  bool race_check_threads = false;
  // LOCKSTEP_EMULATED_IGNORED_WAITS=urgent|other|of_copies|for_copies sets the default.
  Waits ignored_waits = Waits::none;
};
Options& options();

// What the calling OS thread has done so far.
struct Counters {
  int64_t launches = 0;  // of kernels, in graphs too
  int64_t graph_launches = 0;
  int64_t synchronizations = 0;  // of streams, events and devices with the host
};
Counters& counters();

// The number of the capture that a stream takes part in, counted from 1 by the process; 0: none.
uint64_t capture_number(cudaStream_t stream);

// What a kernel launch is: a grid of blocks of threads, each of which runs `body`.
struct Launch {
  dim3 grid{1}, block{1};
  size_t shared_bytes = 0;
  bool cooperative = false;
};
cudaError_t launch(const Launch& launch, cudaStream_t stream, std::function<void()> body);

}  // namespace cuda_emulation
