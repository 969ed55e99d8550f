// SPDX-License-Identifier: Apache-2.0
// One rank's part in an emulated NCCL communicator: how ranks meet, compare what they were called for, and move bytes.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "tests/cuda_emulation/nccl_segment.h"

namespace lockstep::emulated_nccl {

// A call with its buffers.
struct Operation {
  Call call;
  const void* in = nullptr;
  void* out = nullptr;
};

// A session that has failed moves nothing any more, and says so. join() and run() have threads of their own; result()
// and why() are for after join().
class Session {
 public:
  Session(std::string name, int rank, int ranks, std::string bus_id);

  // Meets all ranks for the first and for the last time.
  void join();
  void finalize();
  // What was called between ncclGroupStart and ncclGroupEnd, as work of a stream.
  void run(const std::vector<Operation>& operations);
  // How many launches are on their way to run(); finalize() waits for them. Relaxed, here and wherever a stream meets
  // the host: the thread sanitizer would take more for an order that NCCL does not promise.
  void enter_queue() { queued_.fetch_add(1, std::memory_order_relaxed); }
  void leave_queue() { queued_.fetch_sub(1, std::memory_order_relaxed); }
  // Whoever waits in here leaves; returns when nobody touches the caller's buffers any more.
  void abort();
  // Faults: returns when aborted; run() reports an error and does not return before.
  void hang() const;
  void break_in_use() { breaks_in_use_ = true; }

  ncclResult_t result() const;
  std::string why() const;
  // A failure of this rank alone. The first counts.
  void fail(ncclResult_t result, const std::string& why);

 private:
  template <class Reached>
  bool wait(const Reached& reached) const;
  void fail_all(ncclResult_t result, const std::string& why);
  void refuse_difference(const std::string& where);
  bool begin(const Call& call);
  bool meet();
  const char* chunk(int rank) const { return segment_->block(rank).chunks[turn_ % 2]; }

  bool collective(const Operation& operation);
  template <class Use>
  bool in_chunks(const char* mine, int64_t count, int64_t size, const Use& use);
  bool all_reduce(const Operation& operation);
  bool reduce_scatter(const Operation& operation);
  bool all_gather(const Operation& operation);
  bool broadcast(const Operation& operation);

  struct Message;
  bool exchange(const std::vector<Operation>& operations);
  bool move_piece(Message& message);
  void check_peers(const std::vector<Message>& messages);

  std::string name_;
  int rank_, ranks_;
  std::string bus_id_;
  std::unique_ptr<Segment> segment_;
  std::atomic<bool> aborted_{false}, running_{false}, breaks_in_use_{false};
  std::atomic<int> queued_{0};
  std::atomic<int32_t> failed_{ncclSuccess};
  std::string why_;  // written before failed_
  uint64_t turn_ = 0, collectives_ = 0;
};

// out[i] = in[0][i] op in[1][i] op ..., in that order; bf16 in float, rounded once.
void reduce(ncclDataType_t type, ncclRedOp_t op, const std::vector<const void*>& in, void* out, int64_t count);

}  // namespace lockstep::emulated_nccl
