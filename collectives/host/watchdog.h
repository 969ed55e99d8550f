// SPDX-License-Identifier: Apache-2.0
// Deadlines for calls that have none of their own, such as those of MPI that start, end and allocate.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace lockstep {

// A thread that looks at the one call that its owner is in. A call that does not return in time can only be ended
// together with its process: `expired`(what, timeout) says why, on that thread, and the process then ends with exit
// code 1. Time in which the whole process was stopped does not count.
class Watchdog {
 public:
  using Expired = std::function<void(const std::string& what, std::chrono::milliseconds timeout)>;
  // Error(device) when no thread can be started.
  explicit Watchdog(Expired expired);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog();

  // Runs `call`, which must return within `timeout`. Not nested; used by one thread.
  template <class Call>
  auto bound(std::string what, std::chrono::milliseconds timeout, const Call& call) {
    const Watch watch(*this, std::move(what), timeout);
    return call();
  }

 private:
  class Watch {
   public:
    Watch(Watchdog& dog, std::string what, std::chrono::milliseconds timeout) : dog_(dog) {
      dog_.set(std::move(what), timeout);
    }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    ~Watch() { dog_.set("", std::chrono::milliseconds(0)); }

   private:
    Watchdog& dog_;
  };
  void set(std::string what, std::chrono::milliseconds timeout);
  void run();

  Expired expired_;
  std::mutex mutex_;
  std::condition_variable end_;
  std::string what_;  // empty: no call is watched
  std::chrono::milliseconds timeout_{0}, waited_{0};
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace lockstep
