// SPDX-License-Identifier: Apache-2.0
// How a rank waits for others: it spins a moment, then gives way, then naps, and gives up at a deadline.
#pragma once

#include <chrono>
#include <thread>

#include "collectives/host/job_control.h"
#include "kernels/device/check.h"
#include "kernels/device/spin.h"

namespace lockstep {

class Deadline {
 public:
  // `spins` looks come before giving way to other threads; few when ranks outnumber cores.
  Deadline(const JobControl& job, std::chrono::milliseconds timeout, int spins)
      : job_(job), timeout_(timeout), spins_(spins) {}

  std::chrono::milliseconds timeout() const { return timeout_; }

  // Called between two looks. False once the deadline has passed. Error(collective) when a rank has ended the job.
  bool pause() {
    if (++looks_ <= spins_) {
      pause_between_looks();
      return true;
    }
    return pause_long();
  }

 private:
  using Clock = std::chrono::steady_clock;

  bool pause_long() {
    check_job();
    if (looks_ == spins_ + 1) start_ = Clock::now();
    if (looks_ % 16 == 0) waited_ = Clock::now() - start_;
    if (waited_ > timeout_) return false;
    if (waited_ > kNapAfter) {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    } else {
      std::this_thread::yield();
    }
    return true;
  }

  void check_job() const {
    const int ended_by = job_.ended_by.load(std::memory_order_acquire);
    check(ended_by == 0, ErrorCode::collective,
          [&] { return str("rank ", ended_by - 1, " failed and ended the run while this rank waited for it"); });
  }

  static constexpr std::chrono::milliseconds kNapAfter{10};
  const JobControl& job_;
  std::chrono::milliseconds timeout_;
  int64_t spins_, looks_ = 0;
  Clock::time_point start_;
  Clock::duration waited_{0};
};

}  // namespace lockstep
