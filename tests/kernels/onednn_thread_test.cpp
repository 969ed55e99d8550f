// SPDX-License-Identifier: Apache-2.0
// What threads keep that call oneDNN.
#include <gtest/gtest.h>
#include <signal.h>

#include <thread>

#include "kernels/matmul.h"
#include "tests/kernels/arrays.h"

namespace lockstep {
namespace {

using testing_support::Array;

// Where a signal's frame was written: 0 while none came, 1 in the stack that its thread keeps for signals, -1
// elsewhere.
volatile sig_atomic_t frame_of_signal = 0;
void note_frame(int) {
  stack_t stack{};
  sigaltstack(nullptr, &stack);
  frame_of_signal = (stack.ss_flags & SS_ONSTACK) != 0 ? 1 : -1;
}

// Products of oneDNN let the stack pointer point into the heap: a frame written there would destroy what the heap
// holds.
TEST(OneDnnThread, EveryThreadThatMultipliesHasAStackForSignals) {
  if constexpr (!config::onednn) GTEST_SKIP() << "products of this build are Eigen's, which have an ordinary stack";
  struct sigaction noting {
  }, before{};
  noting.sa_handler = note_frame;
  noting.sa_flags = SA_ONSTACK;
  sigaction(SIGUSR1, &noting, &before);
  const auto multiply_and_be_interrupted = [] {
    Array out({4, 4});
    const Array a = Array::random({4, 4}, 1), b = Array::random({4, 4}, 2);
    Stream stream = Stream::cpu();
    launch(stream, Matmul{.out = out, .a = a, .b = b});
    frame_of_signal = 0;
    raise(SIGUSR1);
    return int(frame_of_signal);
  };
  EXPECT_EQ(multiply_and_be_interrupted(), 1);
  int of_another = 0;
  std::thread([&] { of_another = multiply_and_be_interrupted(); }).join();
  EXPECT_EQ(of_another, 1);
  sigaction(SIGUSR1, &before, nullptr);
}

}  // namespace
}  // namespace lockstep
