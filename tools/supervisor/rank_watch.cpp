// SPDX-License-Identifier: Apache-2.0
#include "tools/supervisor/rank_watch.h"

#include <algorithm>
#include <utility>

#include "kernels/device/check.h"

namespace lockstep {

void RankWatch::begin_life(int life) {
  for (Heartbeat& rank : shared_.ranks) {
    rank.phase = RankPhase::absent;
    rank.process = 0;
    rank.process_start = 0;
    rank.first_step = 0;
    rank.step = 0;
    rank.slow_step = 0;
  }
  shared_.life = life;
  ranks_ = 0;
  seen_.clear();
  last_look_.reset();
  furthest_ = -1;
  gone_.reset();
}

bool RankWatch::is_alive(const Heartbeat& rank) const { return start_of_process(rank.process) == rank.process_start; }

void RankWatch::look(Clock::time_point now) {
  constexpr std::chrono::milliseconds kMostBetweenLooks{100}, kHeardOf{50};
  const std::chrono::nanoseconds since = last_look_
                                             ? std::min<std::chrono::nanoseconds>(now - *last_look_, kMostBetweenLooks)
                                             : std::chrono::nanoseconds(0);
  last_look_ = now;
  for (const Heartbeat& rank : shared_.ranks)
    if (rank.phase != RankPhase::absent) ranks_ = std::max(ranks_, int(rank.ranks));
  ranks_ = std::min(ranks_, Supervision::kMostRanks);
  seen_.resize(size_t(ranks_));
  std::vector<int> left;
  for (int r = 0; r < ranks_; ++r) {
    const Heartbeat& rank = shared_.ranks[r];
    Seen& seen = seen_[size_t(r)];
    if (rank.phase == RankPhase::absent) continue;
    const int64_t beats = rank.beats;
    seen.silent = beats == seen.beats ? seen.silent + since : std::chrono::nanoseconds(0);
    seen.beats = beats;
    if (rank.phase != RankPhase::starting) furthest_ = std::max(furthest_, int64_t(rank.step));
    // Whoever has just been heard of lives; asking the system costs more than all the rest.
    const bool alive = (seen.there && seen.silent < kHeardOf) || is_alive(rank);
    if (seen.there && !alive && rank.phase != RankPhase::ended) left.push_back(r);
    seen.there = alive;
  }
  if (gone_ || left.empty()) return;
  // Ranks of one process go together, though one of them may have been heard of a moment ago.
  for (int r = 0; r < ranks_; ++r)
    if (seen_[size_t(r)].there && is_alive(shared_.ranks[r])) {
      gone_ = trouble(left[0], "killed", "is gone");
      return;
    }
}

std::optional<int64_t> RankWatch::resumed_at() const {
  for (int r = 0; r < ranks_; ++r) {
    const Heartbeat& rank = shared_.ranks[r];
    if (rank.phase != RankPhase::absent && rank.phase != RankPhase::starting && rank.step > rank.first_step)
      return int64_t(rank.first_step);
  }
  return std::nullopt;
}

std::optional<RankTrouble> RankWatch::hang() const {
  constexpr std::chrono::seconds kUnmeasured{10};
  int64_t slowest = 0;
  for (int r = 0; r < ranks_; ++r) slowest = std::max(slowest, int64_t(shared_.ranks[r].slow_step));
  const bool measured = slowest > 0;
  const std::chrono::nanoseconds patience =
      measured ? 3 * std::chrono::nanoseconds(slowest) + std::chrono::seconds(1) : kUnmeasured;
  int behind = -1;
  bool in_vain = false;
  for (int r = 0; r < ranks_; ++r) {
    const Heartbeat& rank = shared_.ranks[r];
    // Whoever is heard of works, and the others wait for it.
    if (rank.phase == RankPhase::absent || seen_[size_t(r)].silent < patience) return std::nullopt;
    in_vain = in_vain || rank.phase == RankPhase::stepping;
    if (behind < 0 || rank.step < shared_.ranks[behind].step) behind = r;
  }
  for (int r = 0; r < ranks_; ++r)
    if (state_of_process(shared_.ranks[r].process) == 'T') return trouble(r, "stopped", "is stopped");
  if (!measured || !in_vain) return std::nullopt;
  if (shared_.ranks[behind].step < furthest_) return trouble(behind, "hang", "does not come to its end");
  return trouble(behind, "hang", "and all others do not come to their end");
}

RankTrouble RankWatch::trouble(int number, std::string kind, const std::string& state) const {
  const Heartbeat& rank = shared_.ranks[number];
  const std::string where = rank.phase == RankPhase::starting   ? "before its first step"
                            : rank.phase == RankPhase::stepping ? str("in step ", int64_t(rank.step))
                                                                : str("after ", int64_t(rank.step), " steps");
  return {.rank = number,
          .process = rank.process,
          .step = rank.step,
          .kind = std::move(kind),
          .what = str("rank ", number, " (process ", int32_t(rank.process), ") ", state, " ", where)};
}

}  // namespace lockstep
