// SPDX-License-Identifier: Apache-2.0
// Files of ranks as tiktoken has them: the bytes of a token in base64, a blank and its number, line by line.
#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>

#include "kernels/device/check.h"
#include "kernels/device/number_text.h"
#include "kernels/device/printable.h"
#include "runtime/text/tokenizer_files.h"

namespace lockstep {
namespace {

// What such a file does not say, known by the number of its ranks.
struct KnownRanks {
  std::string_view name;
  size_t ranks;
  PieceRule rule;
  std::string_view end_of_text;
  int32_t end_of_text_number;
};
constexpr std::array<KnownRanks, 4> kKnown = {{{"r50k_base, gpt2", 50256, PieceRule::gpt2, "<|endoftext|>", 50256},
                                               {"p50k_base", 50280, PieceRule::gpt2, "<|endoftext|>", 50256},
                                               {"cl100k_base", 100256, PieceRule::llama3, "<|endoftext|>", 100257},
                                               {"Llama 3", 128000, PieceRule::llama3, "<|end_of_text|>", 128001}}};

constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// The bytes that base64 (RFC 4648) stands for; none where it is not that.
std::optional<std::string> bytes_of_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::string bytes;
  uint32_t group = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_padding = i >= text.size() - padding;
    const size_t digit = is_padding ? 0 : kDigits.find(text[i]);
    if (digit == kDigits.npos) return std::nullopt;
    group = group << 6 | uint32_t(digit);
    if (i % 4 != 3) continue;
    for (int shift = 16; shift >= 0; shift -= 8) bytes += char(group >> shift & 255);
    group = 0;
  }
  bytes.resize(bytes.size() - padding);
  return bytes;
}

void read_line(std::string_view line, const std::string& where, int64_t most, std::vector<std::string>& tokens) {
  const size_t blank = line.find(' ');
  const std::optional<std::string> bytes = bytes_of_base64(line.substr(0, blank));
  const std::optional<int64_t> rank = blank == line.npos ? std::nullopt : whole_number_in(line.substr(blank + 1));
  check(bytes && !bytes->empty() && rank && *rank >= 0 && *rank < most, ErrorCode::data, [&] {
    return str(where, ": expected a token in base64, a blank and a number from 0 to ", most - 1, ", got '",
               printable(line, 100), "'; files of SentencePiece are not read");
  });
  if (size_t(*rank) >= tokens.size()) tokens.resize(size_t(*rank) + 1);
  check(tokens[size_t(*rank)].empty(), ErrorCode::data,
        [&] { return str(where, ": a second token has the number ", *rank); });
  tokens[size_t(*rank)] = *bytes;
}

const KnownRanks& known_by(size_t ranks, const std::string& where) {
  const auto known = std::ranges::find(kKnown, ranks, &KnownRanks::ranks);
  check(known != kKnown.end(), ErrorCode::data, [&] {
    std::string names;
    for (const KnownRanks& each : kKnown) names += str(names.empty() ? "" : ", ", each.name, " (", each.ranks, ")");
    return str(where, " has ", ranks, " tokens, and does not say how text is cut into pieces; expected one of ", names,
               "; take the tokenizer.json that belongs to it");
  });
  return *known;
}

// Neighbours are merged whenever they are a token together, that of the lowest number first: so every way to cut a
// token in two is a merge.
std::vector<Merge> merges_of(const std::vector<std::string>& tokens) {
  std::unordered_map<std::string_view, int32_t> numbers;
  for (size_t id = 0; id < tokens.size(); ++id)
    if (!tokens[id].empty()) numbers.emplace(tokens[id], int32_t(id));
  std::vector<Merge> merges;
  for (size_t id = 0; id < tokens.size(); ++id) {
    const std::string_view token = tokens[id];
    const auto first = std::ptrdiff_t(merges.size());
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = numbers.find(token.substr(0, cut)), right = numbers.find(token.substr(cut));
      if (left != numbers.end() && right != numbers.end()) merges.push_back({left->second, right->second, int32_t(id)});
    }
    std::sort(merges.begin() + first, merges.end(),
              [](const Merge& a, const Merge& b) { return std::tuple(a.left, a.right) < std::tuple(b.left, b.right); });
  }
  return merges;
}

}  // namespace

TokenizerParts parts_of_ranks(std::string_view text, const std::string& where) {
  TokenizerParts parts;
  // A number far above the others would take memory for all below it.
  const int64_t most = 2 * std::ranges::count(text, '\n') + 1000;
  size_t ranks = 0;
  for (int64_t number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.empty()) continue;
    read_line(line, str(where, ":", number), most, parts.tokens);
    ++ranks;
  }
  const KnownRanks& known = known_by(ranks, where);
  parts.rule = known.rule;
  parts.whole_pieces = true;
  parts.merges = merges_of(parts.tokens);
  const auto end = size_t(known.end_of_text_number);
  parts.tokens.resize(std::max(parts.tokens.size(), end + 1));
  check(parts.tokens[end].empty(), ErrorCode::data, [&] {
    return str(where, ": the number ", end, " is that of ", known.end_of_text, " in ", known.name,
               ", and a token has it here");
  });
  parts.end_of_text = parts.tokens[end] = known.end_of_text;
  parts.added.push_back({parts.end_of_text, known.end_of_text_number});
  return parts;
}

}  // namespace lockstep
