// SPDX-License-Identifier: Apache-2.0
#include "collectives/host/watchdog.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "kernels/device/start_thread.h"

namespace lockstep {

Watchdog::Watchdog(Expired expired) : expired_(std::move(expired)) {
  // Signals are for the threads that work.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = start_thread("the deadlines of MPI's calls", [this] { run(); });
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  end_.notify_one();
  thread_.join();
}

void Watchdog::set(std::string what, std::chrono::milliseconds timeout) {
  const std::lock_guard lock(mutex_);
  what_ = std::move(what);
  timeout_ = timeout;
  waited_ = std::chrono::milliseconds(0);
}

// It looks every now and then instead of being woken for every call, which would cost the calls time.
void Watchdog::run() {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::milliseconds kLook{50}, kAtMost{500};
  std::unique_lock lock(mutex_);
  for (auto before = Clock::now(); !end_.wait_for(lock, kLook, [this] { return ends_; });) {
    const auto now = Clock::now();
    // A longer gap is one in which this process did not run at all.
    waited_ += std::min(kAtMost, std::chrono::duration_cast<std::chrono::milliseconds>(now - before));
    before = now;
    if (what_.empty() || waited_ <= timeout_) continue;
    expired_(what_, timeout_);
    _exit(1);
  }
}

}  // namespace lockstep
