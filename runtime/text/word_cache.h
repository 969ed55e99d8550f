// SPDX-License-Identifier: Apache-2.0
// Remembers the tokens of short words: text repeats them, and finding one takes less than merging it.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace lockstep {

// Each word has one place, which the next word of the same hash takes from it. Words are compared whole.
class WordCache {
 public:
  static constexpr size_t kLongestWord = 23;
  static constexpr size_t kMostTokens = 9;

  // A word as three numbers; the last byte is its length.
  struct Key {
    std::array<uint64_t, 3> words{};
    friend bool operator==(const Key&, const Key&) = default;
  };
  // Of at most kLongestWord bytes. `readable` says how many bytes of memory may be read from its start.
  static Key key_of(std::string_view word, size_t readable) {
    Key key;
    if (readable >= sizeof key) [[likely]] {
      std::memcpy(&key, word.data(), sizeof key);
      for (size_t i = 0; i < 3; ++i) key.words[i] &= kept_bytes(int(word.size()) - int(i) * 8);
    } else {
      std::memcpy(&key, word.data(), word.size());
    }
    key.words[2] |= uint64_t(word.size()) << 56;
    return key;
  }

  struct alignas(64) Entry {
    Key key;  // of no word while its length is 0
    std::array<int32_t, kMostTokens> tokens{};
    int32_t count = 0;
  };
  // The place of a word, which has it where the keys are equal.
  Entry& place_of(const Key& key) {
    uint64_t hash = (key.words[0] ^ (key.words[1] * 0x9e3779b97f4a7c15u)) * 0xbf58476d1ce4e5b9u;
    hash = (hash ^ hash >> 32 ^ key.words[2]) * 0x94d049bb133111ebu;
    return entries_[hash >> (64 - kBits)];
  }
  static void fill(Entry& entry, const Key& key, std::span<const int32_t> tokens) {
    if (tokens.size() > kMostTokens) return;
    entry.key = key;
    entry.count = int32_t(tokens.size());
    std::memcpy(entry.tokens.data(), tokens.data(), tokens.size_bytes());
  }

 private:
  static constexpr int kBits = 15;
  // A mask of the first `bytes` bytes of eight.
  static uint64_t kept_bytes(int bytes) {
    return bytes <= 0 ? 0 : bytes >= 8 ? ~uint64_t(0) : (uint64_t(1) << (8 * bytes)) - 1;
  }

  std::vector<Entry> entries_ = std::vector<Entry>(size_t(1) << kBits);
};

}  // namespace lockstep
