// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda_emulation/backlog.h"

#include <chrono>
#include <utility>

#include "tests/cuda_emulation/device.h"

namespace cuda_emulation {

// Neither locks nor condition variables where streams wait for each other: the thread sanitizer sees those, and would
// take them for an order that CUDA does not promise.
namespace {
void nap() { std::this_thread::sleep_for(std::chrono::microseconds(20)); }
}  // namespace

void Mark::wait() const {
  while (!reached.load(std::memory_order_acquire)) nap();
}

void Item::run(const void* stream_done) {
  void* const own = current_context();
  enter_context(context);
  acquire_order(mark_before());
  std::exchange(work, nullptr)();
  release_order(behind ? behind : stream_done);
  enter_context(own);
  if (!reaches) return;
  reaches->when = std::chrono::steady_clock::now();
  reaches->reached.store(true, std::memory_order_release);
}

Backlog::~Backlog() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Backlog::add(std::shared_ptr<Item> item) {
  item->submitter = {&options(), &counters(), current_device()};
  release_order(item->mark_before());
  pending_.fetch_add(1, std::memory_order_acq_rel);
  const std::lock_guard lock(mutex_);
  items_.push_back(std::move(item));
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  changed_.notify_all();
}

void Backlog::drain() const {
  while (!empty()) nap();
}

void Backlog::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return closing_ || !items_.empty(); });
    if (items_.empty()) return;
    std::shared_ptr<Item> item = std::move(items_.front());
    items_.pop_front();
    lock.unlock();
    if (item->after) item->after->wait();
    act_for(item->submitter);
    item->run(&done);
    item.reset();
    pending_.fetch_sub(1, std::memory_order_acq_rel);
    lock.lock();
  }
}

}  // namespace cuda_emulation
