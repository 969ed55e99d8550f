// SPDX-License-Identifier: Apache-2.0
// Work that a stream of the emulation cannot do at once: functions of the host, which a thread of the stream runs while
// the rest of the program goes on, and all that is queued behind them. Internal to the emulation.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "tests/cuda_emulation/emulation.h"

namespace cuda_emulation {

// One record of an event: a wait for it means this record and no later one.
struct Mark {
  char order = 0;
  std::chrono::steady_clock::time_point when;
  std::atomic<bool> reached{false};
  void wait() const;
};

// What of the thread that queues work goes with the work.
struct Submitter {
  Options* options = nullptr;
  Counters* counters = nullptr;
  int device = 0;
};

struct Item {
  void* context = nullptr;            // the work is ordered as
  std::shared_ptr<const Mark> after;  // comes first; or null
  const void* before = nullptr;       // mark of order in front of the work; null: the item's own
  const void* behind = nullptr;       // and behind it; null: the stream's
  std::function<void()> work;
  std::shared_ptr<Mark> reaches;  // when the work is done; or null
  char submitted = 0;
  Submitter submitter;

  const void* mark_before() const { return before ? before : &submitted; }
  // As its context, behind mark_before(), on the calling OS thread. The work is gone then, freed by that context: what
  // it held, such as arguments of a kernel, it has read.
  void run(const void* stream_done);
};

class Backlog {
 public:
  Backlog() = default;
  Backlog(const Backlog&) = delete;
  Backlog& operator=(const Backlog&) = delete;
  ~Backlog();

  // While that is so, work may be done at once.
  bool empty() const { return pending_.load(std::memory_order_acquire) == 0; }
  void add(std::shared_ptr<Item> item);
  void drain() const;

  char done = 0;  // mark of order: what the stream has done, to the host

 private:
  void run();

  std::atomic<int64_t> pending_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Item>> items_;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace cuda_emulation
