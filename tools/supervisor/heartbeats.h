// SPDX-License-Identifier: Apache-2.0
// What the ranks of a run under `lockstep run` tell their supervisor, in memory that they share by mapping one file:
// who they are, which step they are at, and how long steps take. Writing is a few stores; nobody waits for anybody.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "collectives/host/shared_file.h"

namespace lockstep {

// Where a rank is.
enum class RankPhase : int32_t {
  absent,    // no such rank has said anything
  starting,  // reads data, builds and restores the model
  stepping,  // in a training step
  between,   // between two steps, where it may judge, write and wait for as long as it likes
  ended,     // has come to the end of the run, as it should
};

// One rank's; zeroed memory is an absent one. The rank alone writes it.
struct Heartbeat {
  static constexpr size_t kBytes = 64;  // of a cache line, so that ranks do not disturb each other

  std::atomic<int32_t> process;
  std::atomic<RankPhase> phase;
  std::atomic<uint64_t> process_start;  // as start_of_process() has it
  std::atomic<int64_t> first_step;      // that this life takes
  std::atomic<int64_t> step;            // so many are taken
  std::atomic<int64_t> beats;           // changes with every beat
  std::atomic<int64_t> slow_step;       // nanoseconds that the slowest of the latest hundred steps took; 0: too few yet
  std::atomic<int32_t> ranks;
};
static_assert(sizeof(Heartbeat) <= Heartbeat::kBytes && std::atomic<int64_t>::is_always_lock_free);

// All that a supervisor and its run share.
struct Supervision {
  static constexpr int kMostRanks = 1024;
  static constexpr uint64_t kMark = 0x31706574736b636c;

  std::atomic<uint64_t> mark;  // kMark when the rest is there
  std::atomic<int32_t> supervisor;
  std::atomic<uint64_t> supervisor_start;
  std::atomic<int32_t> life;            // counted from 1
  std::atomic<int64_t> snapshot_every;  // steps; 0: no snapshots
  struct alignas(Heartbeat::kBytes) Slot : Heartbeat {};
  Slot ranks[kMostRanks];
};

// The file in the folder of a run's supervisor, mapped.
class SupervisionFile {
 public:
  // Makes it. Error(file).
  static SupervisionFile make(const std::string& folder);
  // Maps what a supervisor has made. Error(file) where there is none.
  static SupervisionFile open(const std::string& folder);

  Supervision& operator*() const { return *reinterpret_cast<Supervision*>(mapping_.data()); }
  Supervision* operator->() const { return &**this; }

 private:
  explicit SupervisionFile(const std::string& path) : mapping_(path, sizeof(Supervision)) {}
  SharedMapping mapping_;
};

// When a process was started, in ticks since the start of the machine: with its number it tells it from later ones.
// 0 where there is no such process, or only what is left of one.
uint64_t start_of_process(int process);
// "R", "S", "T" for a stopped one, as the system has it; '\0' where there is none.
char state_of_process(int process);

}  // namespace lockstep
