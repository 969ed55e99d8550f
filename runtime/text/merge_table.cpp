// SPDX-License-Identifier: Apache-2.0
#include "runtime/text/merge_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <queue>
#include <tuple>

namespace lockstep {
namespace {

constexpr size_t kFew = 48;  // up to so many tokens, looking at all of them for each merge is faster than a queue

}  // namespace

MergeTable::MergeTable(std::span<const Merge> merges) {
  const size_t places = std::bit_ceil(std::max<size_t>(merges.size() * 2, 16));
  entries_.resize(places);
  mask_ = places - 1;
  shift_ = 64 - std::countr_zero(places);
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const uint64_t key = key_of(merges[rank].left, merges[rank].right);
    size_t place = place_of(key);
    while (entries_[place].key != kEmpty && entries_[place].key != key) place = (place + 1) & mask_;
    if (entries_[place].key == kEmpty) entries_[place] = {key, {uint32_t(rank), merges[rank].result}};
  }
}

size_t MergeTable::apply(std::span<int32_t> tokens) const {
  if (tokens.size() < 2) return tokens.size();
  return tokens.size() <= kFew ? apply_to_few(tokens) : apply_to_many(tokens);
}

size_t MergeTable::apply_to_few(std::span<int32_t> tokens) const {
  std::array<Found, kFew> pairs;  // of token i and the one behind it
  size_t count = tokens.size();
  for (size_t i = 0; i + 1 < count; ++i) pairs[i] = find(tokens[i], tokens[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (pairs[i].rank < pairs[best].rank) best = i;
    if (pairs[best].rank == kNone) break;
    tokens[best] = pairs[best].result;
    --count;
    for (size_t i = best + 1; i < count; ++i) tokens[i] = tokens[i + 1];
    for (size_t i = best + 1; i + 1 < count; ++i) pairs[i] = pairs[i + 1];
    if (best > 0) pairs[best - 1] = find(tokens[best - 1], tokens[best]);
    if (best + 1 < count) pairs[best] = find(tokens[best], tokens[best + 1]);
  }
  return count;
}

// The tokens are a chain; a queue has the merges that were possible when a pair became neighbours.
size_t MergeTable::apply_to_many(std::span<int32_t> tokens) const {
  constexpr size_t kEnd = ~size_t(0);
  constexpr int32_t kGone = -1;
  struct Candidate {
    uint32_t rank;
    size_t at;
    int32_t left, right, result;
    bool operator>(const Candidate& other) const { return std::tie(rank, at) > std::tie(other.rank, other.at); }
  };
  const size_t count = tokens.size();
  std::vector<size_t> before(count), behind(count);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto offer = [&](size_t at) {
    if (at == kEnd || behind[at] == kEnd) return;
    const Found found = find(tokens[at], tokens[behind[at]]);
    if (found.rank != kNone) queue.push({found.rank, at, tokens[at], tokens[behind[at]], found.result});
  };
  for (size_t i = 0; i < count; ++i) {
    before[i] = i == 0 ? kEnd : i - 1;
    behind[i] = i + 1 == count ? kEnd : i + 1;
  }
  for (size_t i = 0; i + 1 < count; ++i) offer(i);
  while (!queue.empty()) {
    const Candidate next = queue.top();
    queue.pop();
    const size_t other = behind[next.at];
    if (tokens[next.at] != next.left || other == kEnd || tokens[other] != next.right) continue;
    tokens[next.at] = next.result;
    tokens[other] = kGone;
    behind[next.at] = behind[other];
    if (behind[other] != kEnd) before[behind[other]] = next.at;
    offer(before[next.at]);
    offer(next.at);
  }
  return size_t(std::remove(tokens.begin(), tokens.end(), kGone) - tokens.begin());
}

}  // namespace lockstep
