// SPDX-License-Identifier: Apache-2.0
#include "runtime/text/bpe_trainer.h"

#include <algorithm>
#include <exception>
#include <map>
#include <optional>
#include <queue>
#include <tuple>

#include "kernels/device/check.h"
#include "kernels/parallel.h"
#include "runtime/text/byte_symbols.h"
#include "runtime/text/unicode.h"

namespace lockstep {
namespace {

constexpr int32_t kBytes = 256;
constexpr int64_t kLeastCount = 2;  // a pair that occurs once tells nothing about the text

// A pair of neighbours that was seen so often when it was entered. The queue's top is the pair to merge next.
struct Candidate {
  int64_t count;
  int32_t left, right;
  bool operator<(const Candidate& other) const {
    if (count != other.count) return count < other.count;
    return std::tie(left, right) > std::tie(other.left, other.right);
  }
};

// Words as tokens, with what is known about pairs of neighbours. A merge touches only the words that have the pair.
class Merging {
 public:
  Merging(const std::vector<WordCounts::Word>& words, std::vector<std::string>& tokens) : tokens_(tokens) {
    for (size_t id = 0; id < tokens_.size(); ++id) numbers_.emplace(tokens_[id], int32_t(id));
    for (const WordCounts::Word& word : words) {
      std::vector<int32_t> symbols;
      for (const char byte : word.text) symbols.push_back(numbers_.at(std::string(1, byte)));
      for (size_t i = 0; i + 1 < symbols.size(); ++i) add(symbols[i], symbols[i + 1], word.count, words_.size());
      words_.push_back({std::move(symbols), word.count});
    }
    for (const auto& [key, pair] : pairs_) queue_.push({pair.count, int32_t(key >> 32), int32_t(key & 0xffffffff)});
  }

  // The next merge, already done in all words; false when no pair is frequent.
  bool next(Merge& merge) {
    while (!queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      Pair& pair = pairs_[key_of(best.left, best.right)];
      if (pair.count == best.count) {
        if (best.count < kLeastCount) return false;
        merge = {best.left, best.right, number_of(tokens_[size_t(best.left)] + tokens_[size_t(best.right)])};
        apply(merge, std::exchange(pair.words, {}));
        return true;
      }
      // Counts fall unnoticed; a pair whose count has risen was entered anew.
      if (pair.count > 0 && pair.count < best.count) queue_.push({pair.count, best.left, best.right});
    }
    return false;
  }

 private:
  struct Word {
    std::vector<int32_t> symbols;
    int64_t count;
  };
  struct Pair {
    int64_t count = 0;
    std::vector<size_t> words;  // that have or had it, ascending within a merge
  };
  static uint64_t key_of(int32_t left, int32_t right) { return uint64_t(uint32_t(left)) << 32 | uint32_t(right); }

  // Two ways of merging may lead to the same bytes: they are one token.
  int32_t number_of(std::string bytes) {
    const auto [at, fresh] = numbers_.emplace(bytes, int32_t(tokens_.size()));
    if (fresh) tokens_.push_back(std::move(bytes));
    return at->second;
  }

  void add(int32_t left, int32_t right, int64_t count, size_t word) {
    Pair& pair = pairs_[key_of(left, right)];
    pair.count += count;
    if (count > 0 && (pair.words.empty() || pair.words.back() != word)) pair.words.push_back(word);
  }

  void apply(const Merge& merge, std::vector<size_t> places) {
    std::ranges::sort(places);
    places.erase(std::unique(places.begin(), places.end()), places.end());
    std::map<std::pair<int32_t, int32_t>, bool> risen;
    for (const size_t place : places) {
      Word& word = words_[place];
      std::vector<int32_t>& symbols = word.symbols;
      const auto change = [&](int32_t left, int32_t right, int64_t by) {
        add(left, right, by, place);
        if (by > 0) risen[{left, right}] = true;
      };
      size_t end = 0;
      for (size_t i = 0; i < symbols.size(); ++i) {
        if (symbols[i] != merge.left || i + 1 == symbols.size() || symbols[i + 1] != merge.right) {
          symbols[end++] = symbols[i];
          continue;
        }
        if (end > 0) {
          change(symbols[end - 1], merge.left, -word.count);
          change(symbols[end - 1], merge.result, word.count);
        }
        if (i + 2 < symbols.size()) {
          change(merge.right, symbols[i + 2], -word.count);
          change(merge.result, symbols[i + 2], word.count);
        }
        symbols[end++] = merge.result;
        ++i;
      }
      symbols.resize(end);
    }
    for (const auto& [pair, yes] : risen)
      if (const int64_t count = pairs_[key_of(pair.first, pair.second)].count; count > 0)
        queue_.push({count, pair.first, pair.second});
  }

  std::vector<std::string>& tokens_;
  std::unordered_map<std::string, int32_t> numbers_;
  std::vector<Word> words_;
  std::unordered_map<uint64_t, Pair> pairs_;
  std::priority_queue<Candidate> queue_;
};

void check_training(const BpeTraining& training) {
  const int64_t least = kBytes + int64_t(training.special.size());
  check(training.vocabulary >= least, ErrorCode::usage, [&] {
    return str("expected a vocabulary of at least ", least, ", for 256 bytes and ", training.special.size(),
               " special tokens, got ", training.vocabulary);
  });
  for (size_t i = 0; i < training.special.size(); ++i) {
    const std::string& token = training.special[i];
    bool valid = !token.empty() && std::ranges::count(training.special, token) == 1;
    for (std::string_view rest = token; !rest.empty();) {
      const Character next = read_character(rest);
      valid = valid && next.code != kInvalidCode;
      rest.remove_prefix(size_t(next.bytes));
    }
    check(valid, ErrorCode::usage, [&] {
      return str(
          "expected special tokens to be different texts in UTF-8, got an empty, repeated or broken one as number ",
          i + 1);
    });
  }
}

}  // namespace

WordCounts::WordCounts(PieceRule rule, int threads) : rule_(rule), counts_(size_t(std::max(threads, 1))) {}

void WordCounts::add(std::string_view text) {
  const size_t parts = counts_.size();
  std::vector<size_t> cuts{0};
  for (size_t part = 1; part < parts; ++part)
    cuts.push_back(std::max(cuts.back(), safe_cut(text, text.size() / parts * part)));
  cuts.push_back(text.size());
  std::vector<std::exception_ptr> errors(parts);
  cpu::parallel_parts(int(parts), int64_t(parts), [&](int64_t part) {
    try {
      Counts& counts = counts_[size_t(part)];
      std::string_view rest = text.substr(cuts[size_t(part)], cuts[size_t(part) + 1] - cuts[size_t(part)]);
      while (!rest.empty()) {
        const std::string_view piece = rest.substr(0, first_piece(rule_, rest));
        if (const auto known = counts.find(piece); known != counts.end())
          ++known->second;
        else
          counts.emplace(piece, 1);
        rest.remove_prefix(piece.size());
      }
    } catch (...) {
      errors[size_t(part)] = std::current_exception();
    }
  });
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

std::vector<WordCounts::Word> WordCounts::words() const {
  std::map<std::string_view, int64_t> all;
  for (const Counts& counts : counts_)
    for (const auto& [word, count] : counts) all[word] += count;
  std::vector<Word> words;
  for (const auto& [word, count] : all) words.push_back({std::string(word), count});
  return words;
}

TokenizerParts train_bpe(const std::vector<WordCounts::Word>& words, const BpeTraining& training) {
  check_training(training);
  TokenizerParts parts;
  parts.rule = training.rule;
  for (const uint8_t byte : kBytesBySymbol) parts.tokens.emplace_back(1, char(byte));
  const size_t wanted = size_t(training.vocabulary) - training.special.size();
  Merging merging(words, parts.tokens);
  for (Merge merge; parts.tokens.size() < wanted && merging.next(merge);) parts.merges.push_back(merge);
  check(parts.tokens.size() == wanted, ErrorCode::data, [&] {
    return str("the text has pairs that occur twice for a vocabulary of ",
               parts.tokens.size() + training.special.size(), " only, not ", training.vocabulary,
               "; give more text, or a smaller vocabulary");
  });
  for (const std::string& token : training.special) {
    // Files name tokens by their symbols, so that two of the same would be one.
    const std::optional<std::string> bytes = bytes_of_symbols(token);
    check(!bytes || std::ranges::find(parts.tokens, *bytes) == parts.tokens.end(), ErrorCode::usage, [&] {
      return str("the special token '", token, "' is spelled like a token of the text; choose one that no text has");
    });
    parts.added.push_back({token, int32_t(parts.tokens.size())});
    parts.tokens.push_back(token);
  }
  if (!training.special.empty()) parts.end_of_text = training.special[0];
  return parts;
}

}  // namespace lockstep
