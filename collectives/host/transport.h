// SPDX-License-Identifier: Apache-2.0
// What a kind of rank provides: memory shared within a node, messages, and a way to end the job. All collective
// algorithms use it (host_communicator.cpp); threads and MPI processes differ only here. Internal to collectives/.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "collectives/communicator.h"
#include "collectives/host/deadline.h"
#include "collectives/host/job_control.h"

namespace lockstep {

class Transport {
 public:
  virtual ~Transport() = default;
  virtual std::string_view name() const = 0;
  virtual int rank() const = 0;
  virtual const Roster& roster() const = 0;
  virtual JobControl& job() const = 0;
  virtual int job_rank() const = 0;  // rank among all ranks of the job

  // Returns one zeroed segment per rank of the node. All of them call it together.
  virtual std::unique_ptr<SharedWindow> share(int64_t bytes, Deadline deadline) = 0;
  // Returns the ranks whose messages were late at the deadline; empty when all are through.
  virtual std::vector<int> exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives,
                                    Deadline deadline) = 0;
  virtual void vendor_all_reduce(View inout, ReduceOp op) = 0;
  // `colors` and `keys` have one element per rank.
  virtual std::unique_ptr<Transport> split(std::span<const int> colors, std::span<const int> keys) = 0;
  virtual void abort(int exit_code) noexcept = 0;
};

// The ranks of the caller's color, ordered by key, then rank.
std::vector<int> split_members(int rank, std::span<const int> colors, std::span<const int> keys);
// The part of a roster that `members` make up, with nodes numbered anew.
Roster split_roster(const Roster& roster, std::span<const int> members);

std::unique_ptr<Communicator> make_communicator(std::unique_ptr<Transport> transport,
                                                std::chrono::milliseconds timeout);

}  // namespace lockstep
