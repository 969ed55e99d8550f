// SPDX-License-Identifier: Apache-2.0
// The collective algorithms on host memory: through shared memory within a node, by messages between nodes.
// Internal to collectives/.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/host/node_group.h"
#include "collectives/host/transport.h"
#include "collectives/partition.h"

namespace lockstep {

inline constexpr int64_t kMailBytes = 4096;         // what is handed over at once, as losses are
inline constexpr int64_t kStageBytes = 256 * 1024;  // a piece of what lies in nobody's window

class HostCommunicator final : public Communicator {
 public:
  HostCommunicator(std::unique_ptr<Transport> transport, std::chrono::milliseconds timeout);

  std::string_view transport() const override { return transport_->name(); }
  NodeGroup& node() override { return *node_; }
  bool claim_error_report() noexcept override;
  void abort(int exit_code) noexcept override;

  // This rank's segments of the windows that are alive, to find the one that a view lies in.
  struct OwnSegment {
    int64_t id;  // the order of allocation, equal on all ranks
    const SharedWindow* window;
    const std::byte* begin;
    int64_t bytes;
  };
  using OwnSegments = std::vector<OwnSegment>;

 private:
  Work do_all_reduce(View inout, ReduceOp op, Stream& after) override;
  Work do_reduce_scatter(ConstView in, View out, ReduceOp op, Stream& after) override;
  Work do_all_gather(ConstView in, View out, Stream& after) override;
  Work do_broadcast(View inout, int root, Stream& after) override;
  void do_barrier() override;
  std::vector<std::string> do_all_gather_bytes(std::string_view mine) override;
  void do_exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives) override;
  void do_vendor_all_reduce(View inout, ReduceOp op) override;
  std::unique_ptr<Communicator> do_split(int color, int key) override;
  std::unique_ptr<SharedWindow> do_allocate_shared(int64_t bytes) override;

  void reduce_small(View inout, ReduceOp op);
  void reduce_staged(View inout, ReduceOp op, int threads);
  void reduce_segments(const SharedWindow& window, int64_t offset, const CollectiveCall& call, int threads);
  void reduce_across_nodes(std::span<std::byte* const> copies, const CollectiveCall& call);
  void scatter_within_node(ConstView in, View out, ReduceOp op);
  void gather(const void* in, int64_t bytes, void* out, const CollectiveCall& call);
  void compare_logs_of_nodes();
  // The window whose own segment holds all of `view`, or null.
  const OwnSegment* find_window(const View& view) const;
  std::byte* mail(int local_rank) const;
  RecentCalls& recent_calls(int local_rank) const;
  std::atomic<int32_t>& process(int local_rank) const;  // its number in the system
  int64_t next_stage();                                 // offset of the staging buffer to use next

  std::unique_ptr<Transport> transport_;
  // Of each rank of the node: meeting slot, number of the process, mail, staging buffers, recent calls.
  std::unique_ptr<SharedWindow> memory_;
  std::unique_ptr<NodeGroup> node_;
  std::vector<std::vector<int>> ranks_of_node_;
  int lanes_ = 1;  // ranks of the smallest node, which is how many exchange with other nodes at a time
  std::shared_ptr<OwnSegments> windows_ = std::make_shared<OwnSegments>();
  int64_t windows_made_ = 0;
  uint64_t mail_turn_ = 0, stage_turn_ = 0;
};

}  // namespace lockstep
