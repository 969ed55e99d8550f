// SPDX-License-Identifier: Apache-2.0
// The side of a run that `lockstep run` has started: each rank finds its supervisor and tells it how far it is.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "tools/supervisor/heartbeats.h"

namespace lockstep {

// The environment variable that names the folder which a run shares with its supervisor.
inline constexpr const char* kSupervisorVariable = "LOCKSTEP_SUPERVISOR";

class SupervisedRun {
 public:
  // Collective. Without a supervisor, or where one of the ranks cannot see it, nothing is told to anybody.
  explicit SupervisedRun(Communicator& ranks);

  // Counted from 1: the run was started so often.
  int life() const { return slot_ ? int((*file_)->life) : 1; }
  // Where snapshots go, and after how many steps each; empty: there are none.
  const std::string& snapshots() const { return snapshots_; }
  int64_t snapshot_every() const { return slot_ ? int64_t((*file_)->snapshot_every) : 0; }

  // `step`: so many are taken.
  void begin_steps(int64_t step);
  void begin_step(int64_t step) { beat(RankPhase::stepping, step); }
  void end_step(int64_t step);
  void end() { beat(RankPhase::ended, slot_ ? int64_t(slot_->step) : 0); }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr size_t kTimes = 100, kLookEvery = 16;

  void beat(RankPhase phase, int64_t step);

  std::optional<SupervisionFile> file_;
  Heartbeat* slot_ = nullptr;
  std::string snapshots_;
  Clock::time_point begun_;
  std::vector<int64_t> times_;  // of the latest steps, in nanoseconds
  size_t next_ = 0;
};

}  // namespace lockstep
