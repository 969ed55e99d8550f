// SPDX-License-Identifier: Apache-2.0
// The ranks of one node: they meet through counters in shared memory, and each meeting compares what they came for.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/host/deadline.h"

namespace lockstep {

// What a rank is about to do, which is equal on all ranks that meet.
struct CollectiveCall {
  CollectiveKind kind = CollectiveKind::barrier;
  DType dtype = DType::f32;
  ReduceOp op = ReduceOp::sum;
  int32_t root = 0;
  int64_t count = 0;
  int64_t place = -1;  // where in which shared window; -1 if elsewhere
  friend bool operator==(const CollectiveCall&, const CollectiveCall&) = default;
};
std::string to_string(const CollectiveCall& call);

// A rank's counter and its latest calls, one cache line in its shared memory. Two calls are kept in turn: a rank may
// come to the next meeting while a slow one still reads about the last, but not to the one after that.
struct alignas(64) MeetingSlot {
  std::atomic<uint64_t> arrived{0};
  CollectiveCall call[2];
  uint32_t log[2];  // half of the hash of its log so far
};
static_assert(sizeof(MeetingSlot) == 64);

class NodeGroup {
 public:
  // `slots`, `recent` and `processes` (their numbers in the system) have one element per rank of the node, by local
  // rank. `owner` outlives this and knows names, timeout and the log of this rank.
  NodeGroup(const Communicator& owner, const JobControl& job, std::vector<MeetingSlot*> slots,
            std::vector<const RecentCalls*> recent, std::vector<const std::atomic<int32_t>*> processes);

  int local_rank() const { return local_rank_; }
  int size() const { return int(slots_.size()); }

  // Returns when all ranks of the node have come for the same call, with the same log so far. All then see what each
  // wrote before. Error(collective) names the ranks that have not come, or the two calls that differ.
  void meet(const CollectiveCall& call);
  void barrier() { meet({}); }

  // Returns when reached(local_rank) holds for every rank of the node. Error(collective) names the ranks that are late
  // for `what`.
  template <class Reached>
  void wait_for_all(std::string_view what, const Reached& reached) const {
    for (int i = 0; i < size(); ++i) {
      if (reached(i)) continue;
      Deadline deadline(job_, node_timeout(), spins_);
      while (!reached(i)) {
        if (deadline.pause()) continue;
        std::vector<int> missing;
        for (int j = 0; j < size(); ++j)
          if (!reached(j)) missing.push_back(ranks_[size_t(j)]);
        if (!missing.empty()) give_up(what, missing);
      }
    }
  }

  // For messages: "call 7 of 'data' is ... on rank 0 (host) and ... on rank 2 (host); " if the latest calls of this
  // rank and of another one on the node differ, otherwise empty.
  std::string differing_calls() const;

  // The deadline for waiting on ranks of other nodes.
  Deadline deadline() const { return Deadline(job_, owner_.timeout(), spins_); }
  // `other` is a rank of the group; `difference` is what describe_mismatch() says.
  [[noreturn]] void refuse_logs(int other, const std::string& difference) const;
  [[noreturn]] void give_up(std::string_view what, const std::vector<int>& missing_ranks) const;

 private:
  static constexpr int kFewSpins = 10;
  void choose_spins();
  // Neighbours that wait for another node give up first, so that messages name the missing rank, not them.
  std::chrono::milliseconds node_timeout() const {
    constexpr std::chrono::milliseconds kAtLeast{2000};
    const std::chrono::milliseconds timeout = owner_.timeout();
    return owner_.place().nodes == 1 ? timeout : timeout + std::max(timeout / 4, kAtLeast);
  }
  [[noreturn]] void refuse(const CollectiveCall& mine, int other, const CollectiveCall& theirs) const;
  std::string difference(int local_rank) const;
  // Says where a rank of this node has a process that is stopped or has ended.
  std::string trouble_of(int rank) const;

  const Communicator& owner_;
  const JobControl& job_;
  std::vector<MeetingSlot*> slots_;
  std::vector<const RecentCalls*> recent_;
  std::vector<const std::atomic<int32_t>*> processes_;
  std::vector<int> ranks_;  // one per local rank
  int local_rank_;
  int spins_ = kFewSpins;  // until all ranks are known to be there
  uint64_t turn_ = 0;
};

}  // namespace lockstep
