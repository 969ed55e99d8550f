// SPDX-License-Identifier: Apache-2.0
#include "kernels/thread_team.h"

#include <algorithm>

#include "kernels/device/spin.h"
#include "kernels/device/start_thread.h"

namespace lockstep::cpu {

void Patience::wait(const std::atomic<uint32_t>& word, uint32_t old) {
  if (look(word, old)) return;
  while (word.load(std::memory_order_acquire) == old) word.wait(old, std::memory_order_acquire);
}

bool Patience::look(const std::atomic<uint32_t>& word, uint32_t old) {
  constexpr int kLooksPerClock = 32;
  constexpr Clock::duration kTakenAway = std::chrono::microseconds(300);  // far longer than looks or interrupts take
  const Clock::time_point start = Clock::now();
  for (Clock::time_point before = start;;) {
    for (int i = 0; i < kLooksPerClock; ++i) {
      if (word.load(std::memory_order_acquire) != old) {
        now_ = std::min(kMost, now_ + kMost / 256);
        return true;
      }
      pause_between_looks();
    }
    const Clock::time_point now = Clock::now();
    if (now - before > kTakenAway) now_ = Clock::duration(0);
    if (now - start >= now_) return false;
    before = now;
  }
}

ThreadTeam& ThreadTeam::of_this_thread() {
  thread_local ThreadTeam team;
  return team;
}

ThreadTeam::~ThreadTeam() {
  for (const auto& helper : helpers_) give(*helper, nullptr, nullptr);
  for (const auto& helper : helpers_) helper->thread.join();
}

void ThreadTeam::run(int members, Task task, const void* work) {
  while (int(helpers_.size()) < members - 1) {
    auto helper = std::make_unique<Helper>();
    helper->thread = start_thread("the kernels of a rank",
                                  [&own = *helper, member = int(helpers_.size()) + 1] { help(own, member); });
    helpers_.push_back(std::move(helper));
  }
  for (int member = 1; member < members; ++member) give(*helpers_[size_t(member - 1)], task, work);
  task(work, 0);
  for (int member = 1; member < members; ++member) {
    const Helper& helper = *helpers_[size_t(member - 1)];
    patience_.wait(helper.done, helper.given.load(std::memory_order_relaxed) - 1);
  }
}

void ThreadTeam::give(Helper& helper, Task task, const void* work) {
  helper.task = task;
  helper.work = work;
  helper.given.fetch_add(1, std::memory_order_release);
  helper.given.notify_one();
}

void ThreadTeam::help(Helper& helper, int member) {
  Patience patience;
  for (uint32_t turn = 0;; ++turn) {
    patience.wait(helper.given, turn);
    if (helper.task == nullptr) return;
    helper.task(helper.work, member);
    helper.done.fetch_add(1, std::memory_order_release);
    helper.done.notify_one();
  }
}

}  // namespace lockstep::cpu
