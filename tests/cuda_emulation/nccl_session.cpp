// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda_emulation/nccl_session.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "kernels/device/check.h"

namespace lockstep::emulated_nccl {

Session::Session(std::string name, int rank, int ranks, std::string bus_id)
    : name_(std::move(name)), rank_(rank), ranks_(ranks), bus_id_(std::move(bus_id)) {}

template <class Reached>
bool Session::wait(const Reached& reached) const {
  for (int looks = 0; !reached(); ++looks) {
    if (aborted_.load(std::memory_order_acquire) || segment_->header().failed.load(std::memory_order_acquire))
      return false;
    if (looks < 200) {
      sched_yield();
    } else {
      usleep(50);
    }
  }
  return true;
}

void Session::fail(ncclResult_t result, const std::string& why) {
  if (failed_ != ncclSuccess) return;
  why_ = why;
  failed_.store(result, std::memory_order_release);
}

// Said once; every rank's communicator is of no use any more.
void Session::fail_all(ncclResult_t result, const std::string& why) {
  Header& header = segment_->header();
  int32_t nobody = 0;
  if (!header.failing.compare_exchange_strong(nobody, 1)) return;
  std::snprintf(header.why, sizeof header.why, "%s", why.c_str());
  header.failed.store(result, std::memory_order_release);
  std::fprintf(stderr, "emulated NCCL: %s\n", why.c_str());
}

ncclResult_t Session::result() const {
  const auto own = ncclResult_t(failed_.load(std::memory_order_acquire));
  if (own != ncclSuccess || !segment_) return own;
  return ncclResult_t(segment_->header().failed.load(std::memory_order_acquire));
}

std::string Session::why() const {
  if (failed_.load(std::memory_order_acquire) != ncclSuccess) return why_;
  return segment_ && segment_->header().failed.load(std::memory_order_acquire) ? segment_->header().why : "";
}

void Session::abort() {
  aborted_.store(true, std::memory_order_release);
  while (running_.load(std::memory_order_acquire)) usleep(50);
}

void Session::join() {
  try {
    segment_ = std::make_unique<Segment>(name_, ranks_);
  } catch (const std::exception& error) {
    return fail(ncclSystemError, error.what());
  }
  Header& header = segment_->header();
  RankBlock& mine = segment_->block(rank_);
  if (mine.joined.exchange(1)) return fail(ncclInvalidUsage, str("rank ", rank_, " comes twice"));
  bus_id_.copy(mine.bus_id, sizeof mine.bus_id - 1);
  if (header.joined.fetch_add(1, std::memory_order_acq_rel) + 1 == ranks_) segment_->unlink();
  if (!wait([&] { return header.joined.load(std::memory_order_acquire) == ranks_; })) return segment_->unlink();
  for (int other = 0; other < ranks_; ++other)
    if (other != rank_ && bus_id_ == segment_->block(other).bus_id)
      return fail(ncclInvalidUsage,
                  str("Duplicate GPU detected : rank ", rank_, " and rank ", other, " both on CUDA device ", bus_id_));
}

bool Session::meet() {
  const uint64_t meeting = segment_->block(rank_).arrived.load(std::memory_order_relaxed) + 1;
  segment_->block(rank_).arrived.store(meeting, std::memory_order_release);
  for (int other = 0; other < ranks_; ++other)
    if (!wait([&] { return segment_->block(other).arrived.load(std::memory_order_acquire) >= meeting; })) return false;
  return true;
}

// Meets the others at the beginning of a collective and sees to it that all mean the same one.
bool Session::begin(const Call& call) {
  RankBlock& mine = segment_->block(rank_);
  mine.calls[++collectives_ % 2] = call;
  mine.collectives.store(collectives_, std::memory_order_release);
  if (!meet()) return false;
  for (int other = 0; other < ranks_; ++other)
    if (!(segment_->block(other).calls[collectives_ % 2] == call)) {
      refuse_difference(str("as collective number ", collectives_));
      return false;
    }
  return true;
}

void Session::refuse_difference(const std::string& where) {
  std::string why = str("the ranks call different things ", where, ":");
  for (int rank = 0; rank < ranks_; ++rank) {
    const RankBlock& block = segment_->block(rank);
    const bool has_come = block.collectives.load(std::memory_order_acquire) >= collectives_;
    why += str(rank > 0 ? "; rank " : " rank ", rank, ": ",
               has_come ? to_string(block.calls[collectives_ % 2]) : "not there yet");
  }
  fail_all(ncclInvalidUsage, why);
}

void Session::finalize() {
  const auto quiet = [&] {
    return queued_.load(std::memory_order_relaxed) == 0 && !running_.load(std::memory_order_acquire);
  };
  if (wait(quiet)) begin({.kind = Kind::finalize});
}

void Session::hang() const {
  while (!aborted_.load(std::memory_order_acquire)) usleep(50);
}

void Session::run(const std::vector<Operation>& operations) {
  running_.store(true, std::memory_order_release);
  if (breaks_in_use_) {
    fail(ncclRemoteError, "emulated failure of a connection");
    hang();
  }
  bool goes_on = !aborted_.load(std::memory_order_acquire) && result() == ncclSuccess;
  std::vector<Operation> messages;
  for (const Operation& operation : operations) {
    const bool is_message = operation.call.kind == Kind::send || operation.call.kind == Kind::receive;
    if (is_message) messages.push_back(operation);
    if (!is_message) goes_on = goes_on && collective(operation);
  }
  if (goes_on && !messages.empty()) exchange(messages);
  running_.store(false, std::memory_order_release);
}

bool Session::collective(const Operation& operation) {
  if (!begin(operation.call)) return false;
  switch (operation.call.kind) {
    case Kind::all_reduce:
      return all_reduce(operation);
    case Kind::reduce_scatter:
      return reduce_scatter(operation);
    case Kind::all_gather:
      return all_gather(operation);
    default:
      return broadcast(operation);
  }
}

// Shows `count` elements of every rank to all, piece by piece: use(first element, elements). Chunks are used in turn: a
// rank fills one again after the next meeting, to which all came when they had read it.
template <class Use>
bool Session::in_chunks(const char* mine, int64_t count, int64_t size, const Use& use) {
  for (int64_t done = 0; done < count;) {
    const int64_t n = std::min(count - done, kChunkBytes / size);
    ++turn_;
    if (mine) std::memcpy(segment_->block(rank_).chunks[turn_ % 2], mine + done * size, size_t(n * size));
    if (!meet()) return false;
    use(done, n);
    done += n;
  }
  return true;
}

bool Session::all_reduce(const Operation& operation) {
  const Call& call = operation.call;
  const int64_t size = size_of(call.type);
  return in_chunks(static_cast<const char*>(operation.in), call.count, size, [&](int64_t first, int64_t n) {
    std::vector<const void*> in;
    for (int rank = 0; rank < ranks_; ++rank) in.push_back(chunk(rank));
    reduce(call.type, call.op, in, static_cast<char*>(operation.out) + first * size, n);
  });
}

bool Session::reduce_scatter(const Operation& operation) {
  const Call& call = operation.call;
  const int64_t size = size_of(call.type);
  for (int target = 0; target < ranks_; ++target) {
    const char* part = static_cast<const char*>(operation.in) + target * call.count * size;
    const bool goes_on = in_chunks(part, call.count, size, [&](int64_t first, int64_t n) {
      if (target != rank_) return;
      std::vector<const void*> in;
      for (int rank = 0; rank < ranks_; ++rank) in.push_back(chunk(rank));
      reduce(call.type, call.op, in, static_cast<char*>(operation.out) + first * size, n);
    });
    if (!goes_on) return false;
  }
  return true;
}

bool Session::all_gather(const Operation& operation) {
  const Call& call = operation.call;
  const int64_t size = size_of(call.type);
  return in_chunks(static_cast<const char*>(operation.in), call.count, size, [&](int64_t first, int64_t n) {
    for (int rank = 0; rank < ranks_; ++rank)
      std::memcpy(static_cast<char*>(operation.out) + (rank * call.count + first) * size, chunk(rank),
                  size_t(n * size));
  });
}

bool Session::broadcast(const Operation& operation) {
  const Call& call = operation.call;
  const int64_t size = size_of(call.type);
  const auto* in = rank_ == call.peer ? static_cast<const char*>(operation.in) : nullptr;
  return in_chunks(in, call.count, size, [&](int64_t first, int64_t n) {
    std::memcpy(static_cast<char*>(operation.out) + first * size, chunk(call.peer), size_t(n * size));
  });
}

// A message under way. A send ends when the other side has taken all of it, so that no rank runs ahead of what it was
// asked for.
struct Session::Message {
  Operation operation;
  int64_t bytes, done = 0;
  bool is_send;
  bool finished = false;
};

// Moves what can be moved now; whether that was something.
bool Session::move_piece(Message& message) {
  const Call& call = message.operation.call;
  Mailbox& box = message.is_send ? segment_->mailbox(rank_, call.peer) : segment_->mailbox(call.peer, rank_);
  const uint64_t sent = box.sent.load(std::memory_order_acquire),
                 received = box.received.load(std::memory_order_acquire);
  if (message.is_send) {
    if (sent != received) return false;
    if (message.done == message.bytes) return message.finished = true;
    box.call = call;
    box.bytes = std::min(message.bytes - message.done, kMailBytes);
    std::memcpy(box.data, static_cast<const char*>(message.operation.in) + message.done, size_t(box.bytes));
    message.done += box.bytes;
    box.sent.store(sent + 1, std::memory_order_release);
    return true;
  }
  if (sent == received) return false;
  if (box.call.count != call.count || box.call.type != call.type || box.call.recorded != call.recorded) {
    fail_all(ncclInvalidUsage, str("messages differ: rank ", call.peer, ": ", to_string(box.call), "; rank ", rank_,
                                   ": ", to_string(call)));
    return false;
  }
  std::memcpy(static_cast<char*>(message.operation.out) + message.done, box.data, size_t(box.bytes));
  message.done += box.bytes;
  box.received.store(received + 1, std::memory_order_release);
  message.finished = message.done == message.bytes;
  return true;
}

// A rank that waits in a collective which this rank has not begun will not answer any more.
void Session::check_peers(const std::vector<Message>& messages) {
  for (const Message& message : messages) {
    const Call& call = message.operation.call;
    if (message.finished || segment_->block(call.peer).collectives.load(std::memory_order_acquire) <= collectives_)
      continue;
    const Mailbox& box = message.is_send ? segment_->mailbox(rank_, call.peer) : segment_->mailbox(call.peer, rank_);
    const bool stuck = (box.sent.load(std::memory_order_acquire) == box.received.load()) != message.is_send;
    if (!stuck) continue;
    ++collectives_;
    segment_->block(rank_).calls[collectives_ % 2] = call;
    segment_->block(rank_).collectives.store(collectives_, std::memory_order_release);
    refuse_difference(str("where rank ", rank_, " waits for a message"));
  }
}

bool Session::exchange(const std::vector<Operation>& operations) {
  std::vector<Message> messages;
  for (const Operation& operation : operations)
    messages.push_back({.operation = operation,
                        .bytes = operation.call.count * size_of(operation.call.type),
                        .is_send = operation.call.kind == Kind::send});
  size_t finished = 0;
  const auto progress = [&] {
    bool moved = false;
    for (size_t i = 0; i < messages.size(); ++i) {
      Message& message = messages[i];
      const auto in_front = [&](const Message& other) {
        return !other.finished && other.is_send == message.is_send &&
               other.operation.call.peer == message.operation.call.peer;
      };
      if (message.finished || std::any_of(messages.begin(), messages.begin() + std::ptrdiff_t(i), in_front)) continue;
      moved |= move_piece(message);
      finished += message.finished;
    }
    return moved;
  };
  while (finished < messages.size()) {
    if (!wait([&] {
          const bool moved = progress();
          if (!moved) check_peers(messages);
          return moved;
        }))
      return false;
  }
  return true;
}

}  // namespace lockstep::emulated_nccl
