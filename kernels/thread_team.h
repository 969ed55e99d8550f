// SPDX-License-Identifier: Apache-2.0
// The threads that a CPU rank computes with. OpenMP's wait for each other by spinning for milliseconds, which only the
// environment of the process can change: where a core is shared, as with more ranks than cores, in containers and
// beside other programs, whoever spins holds up the very thread that is waited for.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace lockstep::cpu {

// How a thread waits for another: it looks for a while, because waking a thread takes longer than most work, and then
// sleeps. Once another program had its core meanwhile, it hardly looks at all, and looks longer again little by little.
class Patience {
 public:
  // Returns when `word` is no longer `old`.
  void wait(const std::atomic<uint32_t>& word, uint32_t old);

 private:
  using Clock = std::chrono::steady_clock;
  bool look(const std::atomic<uint32_t>& word, uint32_t old);

  static constexpr Clock::duration kMost = std::chrono::milliseconds(1);
  Clock::duration now_ = kMost;
};

// A thread and those that help it. Used by the thread that owns it.
class ThreadTeam {
 public:
  using Task = void (*)(const void* work, int member);

  ThreadTeam() = default;
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;
  ~ThreadTeam();
  // The calling thread's own, whose threads start when they are first needed and end with it.
  static ThreadTeam& of_this_thread();

  // Calls task(work, member) for member in [0, members), each on a thread of its own and 0 on the caller's, and returns
  // when all have returned. The task must not throw. Error(device) when a thread cannot be started.
  void run(int members, Task task, const void* work);

 private:
  struct alignas(64) Helper {
    std::atomic<uint32_t> given{0};  // how many tasks the helper has been given
    std::atomic<uint32_t> done{0};   // and how many it has finished
    Task task = nullptr;             // null: the end
    const void* work = nullptr;
    std::thread thread;
  };
  static void help(Helper& helper, int member);
  static void give(Helper& helper, Task task, const void* work);

  std::vector<std::unique_ptr<Helper>> helpers_;
  Patience patience_;
};

}  // namespace lockstep::cpu
