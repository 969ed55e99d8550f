// SPDX-License-Identifier: Apache-2.0
#include "collectives/call_log.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace lockstep {

namespace {

// The finalizer of MurmurHash3: every bit of the input moves every bit of the output.
uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdu;
  x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53u;
  return x ^ (x >> 33);
}

uint64_t extended(uint64_t hash, const IssuedCall& call) {
  const uint64_t small =
      uint64_t(call.kind) | uint64_t(call.dtype) << 8 | uint64_t(call.op) << 16 | uint64_t(uint32_t(call.root)) << 32;
  hash = mixed(hash + 0x9e3779b97f4a7c15u + small);
  return mixed(hash + 0x9e3779b97f4a7c15u + uint64_t(call.bytes));
}

LoggedCall logged(const IssuedCall& call, const std::source_location& where) {
  LoggedCall entry{.number = 0, .call = call, .line = int32_t(where.line())};
  const std::string_view file = where.file_name();
  const std::string_view end = file.substr(file.size() - std::min(file.size(), entry.file.size() - 1));
  std::ranges::copy(end, entry.file.begin());
  return entry;
}

}  // namespace

std::string to_string(const IssuedCall& call) {
  std::string text = str(to_string(call.kind), " of ", call.bytes, " B of ", to_string(call.dtype));
  if (call.kind == CollectiveKind::all_reduce || call.kind == CollectiveKind::reduce_scatter)
    text += str(" (", to_string(call.op), ")");
  if (call.kind == CollectiveKind::broadcast) text += str(" from rank ", call.root);
  return text;
}

std::string to_string(const LoggedCall& call) {
  const std::string_view file(call.file.data());
  return str(to_string(call.call), " at ", file.substr(file.rfind('/') + 1), ":", call.line);
}

void RecentCalls::put(const LoggedCall& call) {
  const auto words = std::bit_cast<std::array<uint64_t, kWords>>(call);
  for (size_t i = 0; i < kWords; ++i) words_[call.number % kCalls][i].store(words[i], std::memory_order_relaxed);
  last_.store(call.number, std::memory_order_release);
}

std::optional<LoggedCall> RecentCalls::find(uint64_t number) const {
  std::array<uint64_t, kWords> words;
  for (size_t i = 0; i < kWords; ++i) words[i] = words_[number % kCalls][i].load(std::memory_order_relaxed);
  const auto call = std::bit_cast<LoggedCall>(words);
  return call.number == number && number > 0 ? std::optional(call) : std::nullopt;
}

std::string describe_difference(std::string_view name, const RecentCalls& a, std::string_view rank_a,
                                const RecentCalls& b, std::string_view rank_b) {
  const uint64_t last = std::min(a.last(), b.last()), most = std::max(a.last(), b.last());
  const uint64_t first = most > RecentCalls::kCalls ? most - RecentCalls::kCalls + 1 : 1;
  for (uint64_t number = first; number <= last; ++number) {
    const auto of_a = a.find(number), of_b = b.find(number);
    if (of_a && of_b && of_a->call != of_b->call)
      return str("call ", number, " of '", name, "' is ", to_string(*of_a), " on ", rank_a, " and ", to_string(*of_b),
                 " on ", rank_b);
  }
  return "";
}

std::string describe_mismatch(std::string_view name, const RecentCalls& a, std::string_view rank_a,
                              const RecentCalls& b, std::string_view rank_b) {
  const std::string difference = describe_difference(name, a, rank_a, b, rank_b);
  if (!difference.empty() || a.last() == b.last()) return difference;
  const bool a_has_more = a.last() > b.last();
  const RecentCalls &more = a_has_more ? a : b, &fewer = a_has_more ? b : a;
  const auto call = more.find(more.last());
  return str(a_has_more ? rank_a : rank_b, " has issued ", more.last(), " collectives of '", name, "'",
             call ? ", the last of them " + to_string(*call) + "," : std::string(), " and ",
             a_has_more ? rank_b : rank_a, " ", fewer.last());
}

void CallLog::enter(const IssuedCall& call, std::source_location where) {
  if (ranks_ == 1 || parts_ > 0) return;
  if (captured_) {
    captured_->push_back(logged(call, where));
  } else {
    append(logged(call, where));
  }
}

void CallLog::enter(const Calls& calls) {
  for (const LoggedCall& call : calls) append(call);
}

void CallLog::append(LoggedCall entry) {
  entry.number = ++number_;
  hash_ = extended(hash_, entry.call);
  if (recent_) recent_->put(entry);
  if (keep_) records_.push_back({entry.call.kind, entry.call.dtype, name_, entry.call.bytes});
}

}  // namespace lockstep
