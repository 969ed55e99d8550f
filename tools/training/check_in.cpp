// SPDX-License-Identifier: Apache-2.0
#include "tools/training/check_in.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace lockstep {

std::optional<Straggler> find_straggler(std::span<const RankTimes> times) {
  constexpr double kFactor = 2;
  std::vector<int> order;
  for (int rank = 0; rank < int(times.size()); ++rank)
    if (times[size_t(rank)].parts > 0) order.push_back(rank);
  if (order.size() < 2) return std::nullopt;
  const auto per_part = [&](int rank) { return times[size_t(rank)].compute / times[size_t(rank)].parts; };
  std::ranges::sort(order, {}, per_part);
  const int slowest = order.back(), middle = order[(order.size() - 1) / 2];
  if (per_part(slowest) <= kFactor * per_part(middle)) return std::nullopt;
  return Straggler{slowest, times[size_t(slowest)], times[size_t(middle)]};
}

CheckIn::CheckIn(Communicator& ranks, int parts)
    : ranks_(ranks.split(0, ranks.rank())),
      mine_{.parts = double(parts)},
      window_(size_t(ranks.size())),
      named_(size_t(ranks.size())) {}

bool CheckIn::step(double seconds, double compute, double wait, int signal, int news) {
  constexpr double kInterval = 0.05;
  constexpr int64_t kAtMost = 1000;
  mine_.compute += compute;
  mine_.wait += wait;
  seconds_ += seconds;
  if (++steps_ < steps_to_take_) return false;

  struct Message {
    double signal, seconds, compute, wait, parts, news;
  };
  constexpr int64_t kNumbers = sizeof(Message) / sizeof(double);
  Message mine{double(signal), seconds_, mine_.compute, mine_.wait, mine_.parts, double(news)};
  std::vector<Message> all(size_t(ranks_->size()));
  Stream host = Stream::cpu();
  ranks_
      ->all_gather({&mine, DType::f64, DeviceKind::cpu, Shape{kNumbers}},
                   {all.data(), DType::f64, DeviceKind::cpu, Shape{kNumbers * ranks_->size()}}, host)
      .wait(host);

  double longest = 0;
  times_.clear();
  news_.clear();
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const Message& theirs = all[rank];
    if (signal_ == 0) signal_ = int(theirs.signal);
    news_.push_back(int(theirs.news));
    longest = std::max(longest, theirs.seconds);
    times_.push_back({theirs.compute / double(steps_), theirs.wait / double(steps_), theirs.parts});
    window_[rank].compute += theirs.compute;
    window_[rank].wait += theirs.wait;
    window_[rank].parts = theirs.parts;
  }
  window_seconds_ += longest;
  window_steps_ += steps_;
  // All know the slowest rank's time, so all speak next after the same step.
  steps_to_take_ = std::clamp(int64_t(kInterval * double(steps_) / std::max(longest, 1e-9)), int64_t(1), kAtMost);
  mine_ = {.parts = mine_.parts};
  seconds_ = 0;
  steps_ = 0;
  return true;
}

std::string CheckIn::straggler_news() {
  if (window_steps_ < kWindowSteps || window_seconds_ < kWindowSeconds) return "";
  const std::optional<Straggler> straggler = find_straggler(window_);
  std::string news;
  if (straggler && straggler->rank == suspect_ && !named_[size_t(suspect_)]) {
    named_[size_t(straggler->rank)] = 1;
    news = fmt::format(
        "{} holds the other ranks up: in the last {} steps it computed for {:.2f} s and waited for {:.2f} s, while the "
        "rank in the middle computed for {:.2f} s and waited for {:.2f} s; look for other programs on its cores",
        ranks_->describe(straggler->rank), window_steps_, straggler->times.compute, straggler->times.wait,
        straggler->middle.compute, straggler->middle.wait);
  }
  suspect_ = straggler ? straggler->rank : -1;
  std::ranges::fill(window_, RankTimes{});
  window_seconds_ = 0;
  window_steps_ = 0;
  return news;
}

}  // namespace lockstep
