// SPDX-License-Identifier: Apache-2.0
#include "tools/supervisor/supervised_run.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <exception>

#include "runtime/files/standard_output.h"

namespace lockstep {

SupervisedRun::SupervisedRun(Communicator& ranks) {
  const char* folder = std::getenv(kSupervisorVariable);
  std::string error;
  try {
    if (folder != nullptr && *folder != '\0') file_.emplace(SupervisionFile::open(folder));
  } catch (const Error& caught) {
    error = caught.what();
  }
  const std::vector<std::string> errors = ranks.all_gather_bytes(file_ ? "" : error.empty() ? "-" : error);
  const auto trouble = std::ranges::find_if(errors, [](const std::string& each) { return !each.empty(); });
  if (trouble != errors.end() || ranks.size() > Supervision::kMostRanks) {
    file_.reset();
    const bool somewhere = std::ranges::any_of(errors, [](const std::string& each) { return each != "-"; });
    if (ranks.rank() == 0 && somewhere)
      print_remark(str("lockstep: warning: the supervisor does not see all ranks: ",
                       trouble == errors.end() || *trouble == "-" ? "there are too many of them" : *trouble,
                       "; there are no snapshots of steps\n"));
    return;
  }
  slot_ = &(*file_)->ranks[ranks.rank()];
  if ((*file_)->snapshot_every > 0) snapshots_ = folder;
  slot_->process = getpid();
  slot_->process_start = start_of_process(getpid());
  slot_->ranks = ranks.size();
  beat(RankPhase::starting, 0);
}

void SupervisedRun::begin_steps(int64_t step) {
  if (slot_) slot_->first_step = step;
  beat(RankPhase::between, step);
}

void SupervisedRun::beat(RankPhase phase, int64_t step) {
  if (!slot_) return;
  if (phase == RankPhase::stepping) begun_ = Clock::now();
  slot_->step.store(step, std::memory_order_relaxed);
  slot_->phase.store(phase, std::memory_order_relaxed);
  slot_->beats.store(slot_->beats.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

void SupervisedRun::end_step(int64_t step) {
  if (!slot_) return;
  const int64_t time = std::chrono::nanoseconds(Clock::now() - begun_).count();
  if (times_.size() < kTimes)
    times_.push_back(time);
  else
    times_[next_ % kTimes] = time;
  if (++next_ % kLookEvery == 0) slot_->slow_step = *std::ranges::max_element(times_);
  beat(RankPhase::between, step);
}

}  // namespace lockstep
