// SPDX-License-Identifier: Apache-2.0
// Prepares the batches of the next steps on its own thread while the current one is trained on, whatever is in them.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/device/check.h"
#include "kernels/device/start_thread.h"

namespace lockstep {

// Hands out the batches of steps first, first + 1, ... end - 1. Memory is bounded by `ahead` + 1 batches and reused.
// One thread calls next().
template <class Batch>
class Prefetcher {
 public:
  // Fills a batch that may hold one of earlier; called in the order of steps, by one thread.
  using Prepare = std::function<void(Batch& batch, int64_t step)>;

  Prefetcher(int64_t first, int64_t end, int64_t ahead, const Batch& empty, Prepare prepare)
      : end_(end),
        ahead_(ahead),
        prepare_(std::move(prepare)),
        slots_(size_t(ahead) + 1, empty),
        prepared_(first),
        handed_out_(first),
        thread_(start_thread("the batches to come", [this, first] { prepare_all(first); })) {}
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;
  // Allowed at any moment, whatever the thread is doing.
  ~Prefetcher() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  // The batch is valid until the following next(). Throws what preparing it threw.
  const Batch& next() {
    std::unique_lock lock(mutex_);
    const int64_t step = handed_out_;
    check(step < end_, ErrorCode::internal,
          [&] { return str("expected no batch to be asked for behind that of step ", end_ - 1, ", got one more"); });
    changed_.wait(lock, [&] { return prepared_ > step || error_; });
    if (prepared_ <= step) std::rethrow_exception(error_);
    ++handed_out_;
    lock.unlock();
    changed_.notify_all();
    return slot(step);
  }

 private:
  void prepare_all(int64_t first) {
    for (int64_t step = first; step < end_; ++step) {
      {
        std::unique_lock lock(mutex_);
        // The slot of the batch in use, handed_out_ - 1, stays untouched.
        changed_.wait(lock, [&] { return stop_ || step < handed_out_ + ahead_; });
        if (stop_) return;
      }
      std::exception_ptr error;
      try {
        prepare_(slot(step), step);
      } catch (...) {
        error = std::current_exception();
      }
      {
        const std::lock_guard lock(mutex_);
        if (error)
          error_ = error;
        else
          ++prepared_;
      }
      changed_.notify_all();
      if (error) return;
    }
  }
  Batch& slot(int64_t step) { return slots_[size_t(step) % slots_.size()]; }

  const int64_t end_, ahead_;
  const Prepare prepare_;
  std::vector<Batch> slots_;

  std::mutex mutex_;  // guards the members below
  std::condition_variable changed_;
  int64_t prepared_;    // steps before this one are in their slots
  int64_t handed_out_;  // steps before this one went through next(); the last of them is in use
  bool stop_ = false;
  std::exception_ptr error_;

  std::thread thread_;  // last, so that it starts when all else is there
};

}  // namespace lockstep
