// SPDX-License-Identifier: Apache-2.0
// Ranks tell each other how they are, about twenty times a second: whether somebody asks them to stop, and where their
// time goes. So all end after the same step, and a rank that holds the others up is named.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "collectives/communicator.h"

namespace lockstep {

// Where a rank's time went, in seconds.
struct RankTimes {
  double compute = 0, wait = 0;
  double parts = 0;  // of the batch, in each step
};

// The rank that holds the others up: it took more than twice as long for a part of the batch as the rank in the middle
// (of two: the other one). None where ranks have no parts, or too little time has passed to say.
struct Straggler {
  int rank = 0;
  RankTimes times, middle;
};
std::optional<Straggler> find_straggler(std::span<const RankTimes> times);

class CheckIn {
 public:
  // Collective; `parts` of the batch are this rank's. The ranks get a communicator of their own for it, so that the log
  // of the training's collectives stays what the plan says.
  CheckIn(Communicator& ranks, int parts);

  // Called by all ranks after every step, with what this rank's step took altogether, of which it computed and waited
  // so long, and with a number that the others are to know. True after those steps in which the ranks have spoken to
  // each other.
  bool step(double seconds, double compute, double wait, int signal, int news = 0);

  // Called by all ranks: they speak to each other after the next step, however short steps have been.
  void speak_next() { steps_to_take_ = steps_ + 1; }

  // The signal that some rank was asked to stop by; 0 for none. The same on all ranks, as is all that follows.
  int signal() const { return signal_; }
  // What each rank told in the latest exchange.
  std::span<const int> news() const { return news_; }
  // Of each rank in each of the steps before the latest exchange.
  std::span<const RankTimes> times() const { return times_; }
  // Names a rank that has held the others up for some seconds and steps, twice in a row, in a sentence, once for each
  // rank.
  std::string straggler_news();

 private:
  static constexpr int64_t kWindowSteps = 10;
  static constexpr double kWindowSeconds = 3;

  std::unique_ptr<Communicator> ranks_;
  RankTimes mine_;
  double seconds_ = 0;
  int64_t steps_ = 0, steps_to_take_ = 1;
  int signal_ = 0;
  std::vector<RankTimes> times_;
  std::vector<int> news_;
  // Since a straggler was last looked for.
  std::vector<RankTimes> window_;
  double window_seconds_ = 0;
  int64_t window_steps_ = 0;
  int suspect_ = -1;  // the straggler when it was last looked for
  std::vector<char> named_;
};

}  // namespace lockstep
