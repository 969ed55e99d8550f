// SPDX-License-Identifier: Apache-2.0
#include "collectives/host/node_group.h"

#include "collectives/host/job_processes.h"
#include "collectives/usable_cores.h"

namespace lockstep {

std::string to_string(const CollectiveCall& call) {
  const std::string_view name = to_string(call.kind);
  if (call.kind == CollectiveKind::barrier) return std::string(name);
  std::string text = str(name, " of ", call.count, " ", to_string(call.dtype));
  if (call.kind == CollectiveKind::all_reduce || call.kind == CollectiveKind::reduce_scatter)
    text += str(" (", to_string(call.op), ")");
  if (call.kind == CollectiveKind::broadcast) text += str(" from rank ", call.root);
  if (call.place >= 0) text += str(" at place ", call.place, " of shared memory");
  return text;
}

NodeGroup::NodeGroup(const Communicator& owner, const JobControl& job, std::vector<MeetingSlot*> slots,
                     std::vector<const RecentCalls*> recent, std::vector<const std::atomic<int32_t>*> processes)
    : owner_(owner),
      job_(job),
      slots_(std::move(slots)),
      recent_(std::move(recent)),
      processes_(std::move(processes)),
      local_rank_(owner.place().local_rank) {
  for (int rank = 0; rank < owner.size(); ++rank)
    if (owner.node_of()[size_t(rank)] == owner.place().node) ranks_.push_back(rank);
  if (size() == 1) choose_spins();
}

void NodeGroup::choose_spins() {
  // Spinning helps only while the awaited rank runs on another core, and takes time from it where time is rationed.
  // Launchers bind ranks to cores of their own, so that those of one rank say nothing about the others.
  std::vector<std::vector<int>> cores;
  for (const std::atomic<int32_t>* process : processes_)
    cores.push_back(cores_of_process(process->load(std::memory_order_relaxed)));
  spins_ = can_run_at_once(cores, find_usable_cores().quota) ? 500 : kFewSpins;
}

void NodeGroup::meet(const CollectiveCall& call) {
  if (size() == 1) return;
  const uint64_t turn = ++turn_;
  MeetingSlot& mine = *slots_[size_t(local_rank_)];
  mine.call[turn % 2] = call;
  mine.log[turn % 2] = uint32_t(owner_.log().hash());
  mine.arrived.store(turn, std::memory_order_release);
  wait_for_all(to_string(call.kind),
               [&](int i) { return slots_[size_t(i)]->arrived.load(std::memory_order_acquire) >= turn; });
  if (turn == 1) choose_spins();  // all have said by now which processes they are
  for (int i = 0; i < size(); ++i) {
    const MeetingSlot& theirs = *slots_[size_t(i)];
    if (theirs.call[turn % 2] != call || theirs.log[turn % 2] != mine.log[turn % 2])
      refuse(call, i, theirs.call[turn % 2]);
  }
}

std::string NodeGroup::difference(int local_rank) const {
  const auto name = [&](int i) { return owner_.describe(ranks_[size_t(i)]); };
  return describe_difference(owner_.log().name(), *recent_[size_t(local_rank_)], name(local_rank_),
                             *recent_[size_t(local_rank)], name(local_rank));
}

std::string NodeGroup::differing_calls() const {
  for (int i = 0; i < size(); ++i)
    if (const std::string text = difference(i); !text.empty()) return text + "; ";
  return "";
}

std::string NodeGroup::trouble_of(int rank) const {
  const auto local = std::ranges::find(ranks_, rank);
  return local == ranks_.end() ? "" : trouble_of_process(*processes_[size_t(local - ranks_.begin())]);
}

void NodeGroup::give_up(std::string_view what, const std::vector<int>& missing_ranks) const {
  std::string names;
  for (const int rank : missing_ranks) names += str(names.empty() ? "" : ", ", owner_.describe(rank), trouble_of(rank));
  fail(ErrorCode::collective, str(owner_.describe(owner_.rank()), " waited ", double(owner_.timeout().count()) / 1000,
                                  " s for ", what, ", but these have not come: ", names, "; ", differing_calls(),
                                  "see whether they failed, are stopped, or left out the call"));
}

namespace {
[[noreturn]] void fail_different(std::string text, const std::string& difference) {
  if (!difference.empty()) text += ": " + difference;
  fail(ErrorCode::collective, text + "; every rank must issue the same collectives in the same order");
}
}  // namespace

void NodeGroup::refuse_logs(int other, const std::string& difference) const {
  fail_different(
      str(owner_.describe(owner_.rank()), " and ", owner_.describe(other), " have issued different collectives"),
      difference);
}

void NodeGroup::refuse(const CollectiveCall& mine, int other, const CollectiveCall& theirs) const {
  const int other_rank = ranks_[size_t(other)];
  if (mine == theirs)
    refuse_logs(other_rank,
                describe_mismatch(owner_.log().name(), *recent_[size_t(local_rank_)], owner_.describe(owner_.rank()),
                                  *recent_[size_t(other)], owner_.describe(other_rank)));
  fail_different(str(owner_.describe(owner_.rank()), " calls ", to_string(mine), ", but ", owner_.describe(other_rank),
                     " calls ", to_string(theirs)),
                 difference(other));
}

}  // namespace lockstep
