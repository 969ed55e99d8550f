// SPDX-License-Identifier: Apache-2.0
// A group of ranks and what they do together. Ranks are threads of one process or MPI processes; code above cannot
// tell. Public functions check their arguments for all implementations; every wait has a deadline and names the ranks
// that are missing.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "collectives/call_log.h"
#include "collectives/reduce_op.h"
#include "kernels/device/device.h"
#include "kernels/device/view.h"

namespace lockstep {

class NodeGroup;

// Where this rank runs, relative to the others of its communicator.
struct Place {
  std::string host;
  int node = 0;  // nodes are numbered by their lowest rank
  int nodes = 1;
  int local_rank = 0;  // number among the ranks of this node, in rank order
  int local_size = 1;
};

// Where every rank of a communicator runs.
struct Roster {
  std::vector<int> node_of;        // the node of each rank; nodes are numbered by their lowest rank
  std::vector<std::string> hosts;  // the host of each rank
};

// A message to or from another rank.
struct Outgoing {
  int rank;
  const void* data;
  int64_t bytes;
};
struct Incoming {
  int rank;
  void* data;
  int64_t bytes;
};

// A collective in flight. wait() returns, or orders the stream, after it. Each Work is waited for exactly once.
class [[nodiscard]] Work {
 public:
  Work() = default;  // already done
  explicit Work(std::function<void(Stream&)> wait) : wait_(std::move(wait)) {}
  void wait(Stream& stream) {
    if (wait_) std::exchange(wait_, nullptr)(stream);
  }

 private:
  std::function<void(Stream&)> wait_;
};

// Memory that all ranks of one node can read and write. Every rank contributes one segment (possibly empty), 128-byte
// aligned, zero at first. It is freed when the last rank of the node lets go, which is not collective for the callers.
class SharedWindow {
 public:
  virtual ~SharedWindow() = default;
  virtual void* segment(int local_rank) const = 0;
  virtual int64_t bytes(int local_rank) const = 0;
};

class Communicator {
 public:
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  virtual ~Communicator() = default;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const Place& place() const { return place_; }
  std::span<const int> node_of() const { return roster_.node_of; }  // the node of each rank
  std::string describe(int rank) const;                             // "rank 3 (host)"
  // What carries the bytes between ranks: "threads", "mpi".
  virtual std::string_view transport() const = 0;

  // Collectives on host memory. Every rank must issue the same sequence with equal kinds, dtypes and counts.
  // Sums of floats are taken in the order of ranks within a node, ((r0 + r1) + r2) + ..., then over the sums of nodes
  // in their order; narrow floats are added in f32. So the bits depend on how ranks are placed on nodes, and are the
  // same on all ranks. Placement does not change the bits of the sums in ordered_sum.h.
  Work all_reduce(View inout, ReduceOp op, Stream& after, std::source_location where = std::source_location::current());
  // in.size() == size() * out.size()
  Work reduce_scatter(ConstView in, View out, ReduceOp op, Stream& after,
                      std::source_location where = std::source_location::current());
  // out.size() == size() * in.size()
  Work all_gather(ConstView in, View out, Stream& after, std::source_location where = std::source_location::current());
  Work broadcast(View inout, int root, Stream& after, std::source_location where = std::source_location::current());
  void barrier();
  // The bytes of every rank, in rank order; lengths may differ.
  std::vector<std::string> all_gather_bytes(std::string_view mine);
  // Sends and receives messages, whose lengths must agree on both sides. Returns when all of them are through.
  void exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives);
  // The all-reduce of the transport's own library, for comparison: it has no deadline and does not compare the ranks'
  // calls. Error(usage) where there is none.
  void vendor_all_reduce(View inout, ReduceOp op, std::source_location where = std::source_location::current());

  // Ranks with equal `color` form a new communicator, ordered by `key`, then rank. Collective.
  std::unique_ptr<Communicator> split(int color, int key);
  // Collective over the ranks of this communicator; segments are visible within a node.
  std::unique_ptr<SharedWindow> allocate_shared(int64_t bytes);

  // The collectives of this group, also those that others build from shared memory and messages, or run on devices.
  CallLog& log() { return log_; }
  const CallLog& log() const { return log_; }

  // How long a rank waits for the others before it throws Error(collective) naming those that have not come.
  void set_timeout(std::chrono::milliseconds timeout) { timeout_ = timeout; }
  std::chrono::milliseconds timeout() const { return timeout_; }

  // The ranks of this node, with barriers and waits on counters in shared memory.
  virtual NodeGroup& node() = 0;

  // True for the one rank that prints why the run failed, false for all others. The node of rank 0 has a head start
  // over other nodes, within which it usually ends them.
  virtual bool claim_error_report() noexcept = 0;
  // Ends waiting on every rank of the job: threads leave their waits with an Error; MPI processes are ended once the
  // rank that claimed the report has come here too (or a second has passed).
  virtual void abort(int exit_code) noexcept = 0;

 protected:
  Communicator(int rank, Roster roster);

 private:
  void check_host(const ConstView& view, std::string_view kind) const;

  virtual Work do_all_reduce(View inout, ReduceOp op, Stream& after) = 0;
  virtual Work do_reduce_scatter(ConstView in, View out, ReduceOp op, Stream& after) = 0;
  virtual Work do_all_gather(ConstView in, View out, Stream& after) = 0;
  virtual Work do_broadcast(View inout, int root, Stream& after) = 0;
  virtual void do_barrier() = 0;
  virtual std::vector<std::string> do_all_gather_bytes(std::string_view mine) = 0;
  virtual void do_exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives) = 0;
  virtual void do_vendor_all_reduce(View inout, ReduceOp op) = 0;
  virtual std::unique_ptr<Communicator> do_split(int color, int key) = 0;
  virtual std::unique_ptr<SharedWindow> do_allocate_shared(int64_t bytes) = 0;

  int rank_, size_;
  Roster roster_;
  Place place_;
  std::chrono::milliseconds timeout_{60'000};
  CallLog log_;
};

}  // namespace lockstep
