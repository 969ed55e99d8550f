// SPDX-License-Identifier: Apache-2.0
// The log of a group of ranks: every collective that they issue, over memory of the host or of devices, through a
// communicator, a reducer or a recorded graph. All ranks of the group must have the same log. They compare its hash
// whenever they meet on the host, and the plan knows beforehand what a step enters.
//
// Only collectives on views are entered. Barriers, texts and windows meet at once and are compared then; messages
// (exchange) differ from rank to rank.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <source_location>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "collectives/collective_record.h"
#include "collectives/reduce_op.h"

namespace lockstep {

// One collective as it is issued.
struct IssuedCall {
  CollectiveKind kind = CollectiveKind::all_reduce;
  DType dtype = DType::f32;
  ReduceOp op = ReduceOp::sum;  // for reductions
  int32_t root = 0;             // for broadcasts
  int64_t bytes = 0;            // bytes of the whole operand
  friend bool operator==(const IssuedCall&, const IssuedCall&) = default;
};
std::string to_string(const IssuedCall& call);  // "all_reduce of 24 B of f32 (sum)"

// An issued call with its number and its place in the source; plain bytes, for ranks that disagree to exchange.
struct LoggedCall {
  uint64_t number = 0;  // counted from 1
  IssuedCall call;
  int32_t line = 0;
  std::array<char, 28> file{};  // the end of the file's name
};
static_assert(std::is_trivially_copyable_v<LoggedCall> && sizeof(LoggedCall) % sizeof(uint64_t) == 0);
std::string to_string(const LoggedCall& call);  // followed by "at step.cpp:12"

// The latest calls of one rank, in memory that the ranks of its node share; zeroed memory is an empty one. Its rank
// writes it; a reader that comes in between two words sees a call that nobody made, which only blurs a message.
class RecentCalls {
 public:
  static constexpr uint64_t kCalls = 16;
  void put(const LoggedCall& call);
  uint64_t last() const { return last_.load(std::memory_order_acquire); }  // number; 0 is none
  std::optional<LoggedCall> find(uint64_t number) const;                   // nothing if it is no longer there

 private:
  static constexpr size_t kWords = sizeof(LoggedCall) / sizeof(uint64_t);
  std::atomic<uint64_t> last_;
  std::atomic<uint64_t> words_[kCalls][kWords];
};

// Where two ranks of the group `name` differ: "call 7 of 'data' is ... on A and ... on B"; empty if all that both
// remember is alike.
std::string describe_difference(std::string_view name, const RecentCalls& a, std::string_view rank_a,
                                const RecentCalls& b, std::string_view rank_b);
// The same of two ranks that should be at the same place: where all that both remember is alike, one of them has issued
// more, and is named with the last of its calls. Empty if they have issued as many.
std::string describe_mismatch(std::string_view name, const RecentCalls& a, std::string_view rank_a,
                              const RecentCalls& b, std::string_view rank_b);

class CallLog {
 public:
  explicit CallLog(int ranks) : ranks_(ranks) {}

  // Enters one collective; a rank that is alone enters none.
  void enter(const IssuedCall& call, std::source_location where = std::source_location::current());

  // What is issued while this lives is part of a collective that was entered as a whole, and is not entered itself.
  class [[nodiscard]] Parts {
   public:
    explicit Parts(CallLog& log) : log_(log) { ++log_.parts_; }
    Parts(const Parts&) = delete;
    Parts& operator=(const Parts&) = delete;
    ~Parts() { --log_.parts_; }

   private:
    CallLog& log_;
  };

  // The collectives that body() records into a graph of the device, in order. They run when the graph is launched, and
  // enter() takes them then.
  using Calls = std::vector<LoggedCall>;
  template <class Body>
  Calls capture(const Body& body) {
    Calls calls, *outer = std::exchange(captured_, &calls);
    try {
      body();
    } catch (...) {
      captured_ = outer;
      throw;
    }
    captured_ = outer;
    return calls;
  }
  void enter(const Calls& calls);

  uint64_t number() const { return number_; }  // collectives so far
  uint64_t hash() const { return hash_; }      // hash of all of them in order, without their places in the source

  // The collectives issued while records are kept, oldest first.
  void keep_records(bool keep) { keep_ = keep; }
  const std::vector<CollectiveRecord>& records() const { return records_; }

  // Sets what records and messages call the group.
  void set_name(std::string name) { name_ = std::move(name); }
  const std::string& name() const { return name_; }
  // Publishes the latest calls where other ranks find them; `recent` outlives whatever enters more.
  void publish_in(RecentCalls& recent) { recent_ = &recent; }
  const RecentCalls* recent() const { return recent_; }  // null where they are not published

 private:
  void append(LoggedCall call);

  int ranks_;
  std::string name_ = "ranks";
  uint64_t number_ = 0, hash_ = 0;
  int parts_ = 0;
  Calls* captured_ = nullptr;
  RecentCalls* recent_ = nullptr;
  bool keep_ = false;
  std::vector<CollectiveRecord> records_;
};

}  // namespace lockstep
