// SPDX-License-Identifier: Apache-2.0
// Where the time of a CPU stream goes, kernel by kernel, for measurements: Stream::time_kernels() has every launch
// entered here.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

class KernelTimes {
 public:
  struct Entry {
    std::string_view type;  // as the compiler writes it, see kernel_type()
    int64_t calls;
    double seconds;
  };

  void add(std::string_view type, double seconds);
  const std::vector<Entry>& entries() const { return entries_; }  // in the order of their first calls

 private:
  std::vector<Entry> entries_;
};

// Text with static storage that has the name of the type Kernel in it: kernel_name() gives the name alone.
template <class Kernel>
constexpr std::string_view kernel_type() {
  return __PRETTY_FUNCTION__;
}
std::string kernel_name(std::string_view type);  // "UnaryGrad<Gelu>"

// Enters the time of its own life.
class KernelClock {
 public:
  KernelClock(KernelTimes& times, std::string_view type) : times_(times), type_(type) {}
  KernelClock(const KernelClock&) = delete;
  KernelClock& operator=(const KernelClock&) = delete;
  ~KernelClock() { times_.add(type_, std::chrono::duration<double>(Clock::now() - begin_).count()); }

 private:
  using Clock = std::chrono::steady_clock;
  KernelTimes& times_;
  std::string_view type_;
  Clock::time_point begin_ = Clock::now();
};

}  // namespace lockstep
