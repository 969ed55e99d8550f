// SPDX-License-Identifier: Apache-2.0
#include "tools/training/stop_request.h"

#include <string.h>
#include <time.h>

#include <atomic>
#include <cstdint>

namespace lockstep {
namespace {

// The system calls a handler with nothing but the signal's number, so what it keeps has to lie here.
std::atomic<int> first_signal{0};
std::atomic<int64_t> first_time{0};
static_assert(std::atomic<int64_t>::is_always_lock_free, "handlers must not wait for locks");

int64_t milliseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

// Launchers and batch systems may send one request several times, so those that follow at once are none of their own.
void keep(int signal) {
  constexpr int64_t kSameRequest = 1000;
  int none = 0;
  if (first_signal.compare_exchange_strong(none, signal)) {
    first_time = milliseconds();
  } else if (milliseconds() - first_time > kSameRequest) {
    ::signal(signal, SIG_DFL);
    raise(signal);
  }
}

}  // namespace

StopRequest::StopRequest() {
  first_signal = 0;
  struct sigaction action {};
  action.sa_handler = keep;
  // A product of oneDNN that is interrupted has no stack of its own (kernels/onednn_thread.h).
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  for (size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], &action, &before_[i]);
    // What is ignored stays so, as by nohup.
    if (before_[i].sa_handler == SIG_IGN) sigaction(kSignals[i], &before_[i], nullptr);
  }
}

StopRequest::~StopRequest() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
}

int StopRequest::signal() const { return first_signal; }

std::string name_of_signal(int signal) { return std::string("SIG") + sigabbrev_np(signal); }

int exit_code_of_signal(int signal) { return signal == SIGUSR1 || signal == SIGUSR2 ? 0 : 128 + signal; }

}  // namespace lockstep
