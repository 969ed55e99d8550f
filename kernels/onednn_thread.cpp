// SPDX-License-Identifier: Apache-2.0
#include "kernels/onednn_thread.h"

#include <signal.h>

#include <cstddef>
#include <memory>

namespace lockstep::onednn {
namespace {

// The widest frame, with the tile registers of AMX, takes 11 KiB; the rest is for handlers of the program around us.
constexpr size_t kBytes = 64 << 10;

class SignalStack {
 public:
  SignalStack() {
    stack_t present{};
    if (sigaltstack(nullptr, &present) != 0 || (present.ss_flags & SS_DISABLE) == 0) return;
    memory_ = std::make_unique<std::byte[]>(kBytes);
    const stack_t ours{.ss_sp = memory_.get(), .ss_flags = 0, .ss_size = kBytes};
    sigaltstack(&ours, nullptr);
  }
  SignalStack(const SignalStack&) = delete;
  SignalStack& operator=(const SignalStack&) = delete;
  ~SignalStack() {
    stack_t present{};
    if (!memory_ || sigaltstack(nullptr, &present) != 0 || present.ss_sp != memory_.get()) return;
    const stack_t none{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
    sigaltstack(&none, nullptr);
  }

 private:
  std::unique_ptr<std::byte[]> memory_;
};

}  // namespace

void keep_signal_stack() { thread_local const SignalStack stack; }

}  // namespace lockstep::onednn
