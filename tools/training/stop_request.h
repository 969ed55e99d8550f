// SPDX-License-Identifier: Apache-2.0
// Signals that ask a run to end: from a person, a launcher, a batch system that takes the machine away.
#pragma once

#include <array>
#include <chrono>
#include <csignal>
#include <optional>
#include <string>

namespace lockstep {

// While it lives, INT, TERM, HUP, USR1 and USR2 no longer end the process but are kept until somebody asks; one that
// comes more than a second after the first ends the process as always. The time that the user gives the run counts
// from here on. One at a time in a process, made before its threads.
class StopRequest {
 public:
  // `seconds`: of the run; none: no end.
  explicit StopRequest(std::optional<double> seconds = std::nullopt);
  StopRequest(const StopRequest&) = delete;
  StopRequest& operator=(const StopRequest&) = delete;
  ~StopRequest();
  // The first signal that came, or kTimeIsUp; 0 for none.
  int signal() const;

 private:
  static constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
  std::array<struct sigaction, kSignals.size()> before_;
  std::optional<std::chrono::steady_clock::time_point> end_;
};

// Stands for a signal where the time that the user gives the run is up.
inline constexpr int kTimeIsUp = 1 << 16;

std::string name_of_signal(int signal);  // "SIGTERM"

// What the program returns when it has ended as `signal` asked: 0 for USR1 and USR2, by which batch systems announce
// the end of a job's time, and for kTimeIsUp; what a shell says of a program that was ended by it for the others.
int exit_code_of_signal(int signal);

}  // namespace lockstep
