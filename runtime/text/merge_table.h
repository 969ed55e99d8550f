// SPDX-License-Identifier: Apache-2.0
// The merges of byte-pair encoding: which two tokens become which one, and in what order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lockstep {

struct Merge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t result = 0;
  friend bool operator==(const Merge&, const Merge&) = default;
};

// Finds the merge of a pair. Pairs lie in one array, each at the first free place behind its hash.
class MergeTable {
 public:
  // The rank of a merge is its place in `merges`; of equal pairs the first counts.
  explicit MergeTable(std::span<const Merge> merges);

  struct Found {
    uint32_t rank = kNone;
    int32_t result = 0;
  };
  static constexpr uint32_t kNone = 0xffffffff;
  Found find(int32_t left, int32_t right) const {
    const uint64_t key = key_of(left, right);
    for (size_t place = place_of(key);; place = (place + 1) & mask_) {
      if (entries_[place].key == key) return entries_[place].found;
      if (entries_[place].key == kEmpty) return {};
    }
  }

  // Merges the tokens of a piece until no pair of neighbours has a merge: always the pair of lowest rank, the leftmost
  // of equal ones. Writes over `tokens` and returns how many are left. Takes n log n steps at most.
  size_t apply(std::span<int32_t> tokens) const;

 private:
  static constexpr uint64_t kEmpty = ~uint64_t(0);  // the key of no pair, as tokens are not negative
  struct Entry {
    uint64_t key = kEmpty;
    Found found;
  };
  static uint64_t key_of(int32_t left, int32_t right) { return uint64_t(uint32_t(left)) << 32 | uint32_t(right); }
  size_t place_of(uint64_t key) const { return size_t(key * 0x9e3779b97f4a7c15u >> shift_); }
  size_t apply_to_few(std::span<int32_t> tokens) const;
  size_t apply_to_many(std::span<int32_t> tokens) const;

  std::vector<Entry> entries_;
  size_t mask_ = 0;
  int shift_ = 0;
};

}  // namespace lockstep
