// SPDX-License-Identifier: Apache-2.0
// The memory that the ranks of one emulated NCCL communicator share, whether they are threads or processes.
#pragma once

#include <nccl.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace lockstep::emulated_nccl {

constexpr int kMaxRanks = 32;
constexpr int64_t kChunkBytes = 64 << 10;  // of collectives, a rank and turn
constexpr int64_t kMailBytes = 16 << 10;   // of messages, a pair of ranks

enum class Kind : int32_t { none, all_reduce, reduce_scatter, all_gather, broadcast, finalize, send, receive };

// What a rank asks for; of a collective, equal on all ranks.
struct Call {
  Kind kind = Kind::none;
  ncclDataType_t type = ncclInt8;
  ncclRedOp_t op = ncclSum;
  int32_t peer = 0;  // or the root
  int64_t count = 0;
  int32_t recorded = 0;  // in that recording of this rank, counted from 1; 0: in none
  friend bool operator==(const Call&, const Call&) = default;
};
std::string to_string(const Call& call);
int64_t size_of(ncclDataType_t type);  // 0: not known here

struct alignas(64) RankBlock {
  std::atomic<int32_t> joined{0};
  char bus_id[60] = "";
  alignas(64) std::atomic<uint64_t> arrived{0};      // meetings
  alignas(64) std::atomic<uint64_t> collectives{0};  // begun
  Call calls[2];                                     // collectives, in turn
  char chunks[2][kChunkBytes];                       // in turn
};

struct alignas(64) Mailbox {
  std::atomic<uint64_t> sent{0}, received{0};  // pieces
  Call call;                                   // of the message under way
  int64_t bytes = 0;                           // of the piece
  char data[kMailBytes];
};

// All zero at first.
struct Header {
  std::atomic<int32_t> joined{0};
  std::atomic<int32_t> failing{0};  // somebody writes why
  std::atomic<int32_t> failed{0};   // the ncclResult_t, when that is written
  char why[4096] = "";
};
static_assert(std::atomic<int32_t>::is_always_lock_free && std::atomic<uint64_t>::is_always_lock_free);

// A mapping of the segment called `name`, made by whoever comes first. Throws std::runtime_error.
class Segment {
 public:
  Segment(const std::string& name, int ranks);
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;
  ~Segment();

  Header& header() const { return *static_cast<Header*>(memory_); }
  RankBlock& block(int rank) const { return blocks_[rank]; }
  Mailbox& mailbox(int from, int to) const { return mailboxes_[from * ranks_ + to]; }
  // Takes the name away; the memory goes with its last mapping.
  void unlink() const;

 private:
  std::string name_;
  int ranks_;
  size_t bytes_;
  void* memory_;
  RankBlock* blocks_;
  Mailbox* mailboxes_;
};

// A name for a segment. Segments whose maker has died before all ranks came are removed on the occasion.
std::string new_segment_name();

}  // namespace lockstep::emulated_nccl
