// SPDX-License-Identifier: Apache-2.0
// What a supervisor makes of the heartbeats of its run: how far it is, which rank is gone, which one the others wait
// for in vain.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/supervisor/heartbeats.h"

namespace lockstep {

// A rank that something has happened to.
struct RankTrouble {
  int rank = 0;
  int process = 0;
  int64_t step = 0;  // so many it had taken
  std::string kind;  // "killed", "stopped", "hang"
  std::string what;  // "rank 1 (process 4711) is stopped in step 7"
};

class RankWatch {
 public:
  using Clock = std::chrono::steady_clock;
  explicit RankWatch(Supervision& shared) : shared_(shared) {}

  // Forgets the ranks of the life before.
  void begin_life(int life);
  // To be called often. Remembers who has gone while others were there, and when each was last heard of; time in which
  // nobody looked, because the machine slept or the supervisor was stopped, does not count.
  void look(Clock::time_point now);

  // None has said anything yet.
  bool is_silent() const { return ranks_ == 0; }
  // The steps that all ranks together have come to: the most that one has taken. -1 before the first.
  int64_t furthest() const { return furthest_; }
  // The step that this life has begun with, once ranks have taken one; none before.
  std::optional<int64_t> resumed_at() const;
  // The rank that has gone, without having come to its end, before the others.
  const std::optional<RankTrouble>& gone() const { return gone_; }
  // The rank that others wait for in a step, for longer than three times the slowest of the latest hundred steps and a
  // second: the one that is behind. None as long as steps have not been measured, and where ranks are between two
  // steps. A rank whose process is stopped is named there, too; after ten seconds where steps have not been measured.
  std::optional<RankTrouble> hang() const;

 private:
  struct Seen {
    int64_t beats = -1;
    std::chrono::nanoseconds silent{0};  // since the last beat
    bool there = false;
  };
  RankTrouble trouble(int rank, std::string kind, const std::string& state) const;
  bool is_alive(const Heartbeat& rank) const;

  Supervision& shared_;
  int ranks_ = 0;
  std::vector<Seen> seen_;
  std::optional<Clock::time_point> last_look_;
  int64_t furthest_ = -1;
  std::optional<RankTrouble> gone_;
};

}  // namespace lockstep
