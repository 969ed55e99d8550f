// SPDX-License-Identifier: Apache-2.0
#include "runtime/text/tokenizer.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "kernels/device/check.h"
#include "runtime/text/unicode.h"

namespace lockstep {
namespace {

// A token as a message can show it.
std::string shown_bytes(std::string_view bytes) {
  constexpr size_t kLongest = 40;
  std::string text = "\"";
  for (const char c : bytes.substr(0, kLongest)) {
    constexpr char kDigits[] = "0123456789abcdef";
    if (c > ' ' && c <= '~')
      text += c;
    else
      text += {'\\', 'x', kDigits[uint8_t(c) >> 4], kDigits[c & 15]};
  }
  return text + (bytes.size() > kLongest ? "...\"" : "\"");
}

class Hasher {
 public:
  void number(int64_t value) { XXH3_64bits_update(&state_, &value, sizeof value); }
  void text(std::string_view bytes) {
    number(int64_t(bytes.size()));
    XXH3_64bits_update(&state_, bytes.data(), bytes.size());
  }
  uint64_t value() const { return XXH3_64bits_digest(&state_); }

 private:
  XXH3_state_t state_ = [] {
    XXH3_state_t fresh;
    XXH3_INITSTATE(&fresh);
    XXH3_64bits_reset(&fresh);
    return fresh;
  }();
};

uint64_t hash_of(const TokenizerParts& parts) {
  Hasher hasher;
  for (const std::string& token : parts.tokens) hasher.text(token);
  for (const Merge& merge : parts.merges) hasher.number(int64_t(uint64_t(merge.left) << 32 | uint32_t(merge.right)));
  for (const AddedToken& token : parts.added) {
    hasher.text(token.text);
    hasher.number(token.special);
  }
  hasher.number(int64_t(parts.rule));
  hasher.number(parts.whole_pieces);
  hasher.text(parts.end_of_text);
  return hasher.value();
}

}  // namespace

Tokenizer::Tokenizer(TokenizerParts parts, std::string where)
    : parts_(std::move(parts)), where_(std::move(where)), merges_(parts_.merges) {
  // Of two added tokens that a text has at one place the longer one is meant.
  std::ranges::sort(parts_.added, [](const AddedToken& a, const AddedToken& b) {
    return a.text.size() != b.text.size() ? a.text.size() > b.text.size() : a.id < b.id;
  });
  for (const AddedToken& token : parts_.added) {
    check(!token.text.empty() && token.id >= 0 && token.id < vocabulary() &&
              parts_.tokens[size_t(token.id)] == token.text,
          ErrorCode::data, [&] {
            return str(where_, ": the added token ", shown_bytes(token.text),
                       " is not in the vocabulary with its number ", token.id);
          });
    starts_added_[uint8_t(token.text[0])] = true;
  }
  index_tokens();
  check_merges();
  if (!parts_.end_of_text.empty()) {
    end_of_text_ = added_token(parts_.end_of_text);
    check(end_of_text_.has_value(), ErrorCode::data, [&] {
      return str(where_, ": the end-of-text token ", shown_bytes(parts_.end_of_text), " is none of its added tokens");
    });
  }
  hash_ = hash_of(parts_);
}

// Added tokens are found by other means, and may have the bytes of another token.
void Tokenizer::index_tokens() {
  std::vector<bool> added(parts_.tokens.size());
  for (const AddedToken& token : parts_.added) added[size_t(token.id)] = true;
  byte_tokens_.fill(-1);
  by_bytes_.assign(std::bit_ceil(parts_.tokens.size() * 2 + 2), -1);
  const size_t mask = by_bytes_.size() - 1;
  for (size_t id = 0; id < parts_.tokens.size(); ++id) {
    const std::string& token = parts_.tokens[id];
    if (token.empty() || added[id]) continue;
    size_t place = XXH3_64bits(token.data(), token.size()) & mask;
    for (; by_bytes_[place] >= 0; place = (place + 1) & mask)
      check(parts_.tokens[size_t(by_bytes_[place])] != token, ErrorCode::data, [&] {
        return str(where_, ": the tokens ", by_bytes_[place], " and ", id, " have the same bytes, ",
                   shown_bytes(token));
      });
    by_bytes_[place] = int32_t(id);
    if (token.size() == 1) byte_tokens_[uint8_t(token[0])] = int32_t(id);
  }
}

void Tokenizer::check_merges() const {
  const auto exists = [&](int32_t id) { return id >= 0 && id < vocabulary() && !parts_.tokens[size_t(id)].empty(); };
  for (size_t rank = 0; rank < parts_.merges.size(); ++rank) {
    const Merge& merge = parts_.merges[rank];
    check(exists(merge.left) && exists(merge.right) && exists(merge.result) &&
              parts_.tokens[size_t(merge.left)] + parts_.tokens[size_t(merge.right)] ==
                  parts_.tokens[size_t(merge.result)],
          ErrorCode::data,
          [&] { return str(where_, ": merge ", rank, " is not of two tokens whose bytes together are a token"); });
  }
}

std::optional<int32_t> Tokenizer::find_token(std::string_view bytes) const {
  const size_t mask = by_bytes_.size() - 1;
  for (size_t place = XXH3_64bits(bytes.data(), bytes.size()) & mask; by_bytes_[place] >= 0; place = (place + 1) & mask)
    if (parts_.tokens[size_t(by_bytes_[place])] == bytes) return by_bytes_[place];
  return std::nullopt;
}

std::optional<int32_t> Tokenizer::added_token(std::string_view text) const {
  const auto found = std::ranges::find(parts_.added, text, &AddedToken::text);
  return found == parts_.added.end() ? std::nullopt : std::optional(found->id);
}

const AddedToken* Tokenizer::added_at(std::string_view text, SpecialTokens special) const {
  for (const AddedToken& token : parts_.added)
    if ((!token.special || special == SpecialTokens::recognised) && text.starts_with(token.text)) return &token;
  return nullptr;
}

std::vector<Tokenizer::Stretch> Tokenizer::stretches(std::string_view text, SpecialTokens special) const {
  std::vector<Stretch> found;
  size_t begin = 0;
  const bool any = std::ranges::any_of(
      parts_.added, [&](const AddedToken& token) { return !token.special || special == SpecialTokens::recognised; });
  for (size_t at = 0; any && at < text.size();) {
    const AddedToken* token = starts_added_[uint8_t(text[at])] ? added_at(text.substr(at), special) : nullptr;
    if (!token) {
      ++at;
      continue;
    }
    if (at > begin) found.push_back({text.substr(begin, at - begin)});
    found.push_back({text.substr(at, token->text.size()), token->id});
    begin = at += token->text.size();
  }
  if (begin < text.size()) found.push_back({text.substr(begin)});
  return found;
}

size_t Tokenizer::encode_piece(std::string_view piece, int32_t* out) const {
  if (parts_.whole_pieces) {
    if (const std::optional<int32_t> whole = find_token(piece)) return *out = *whole, 1;
  }
  for (size_t i = 0; i < piece.size(); ++i) {
    out[i] = byte_tokens_[uint8_t(piece[i])];
    check(out[i] >= 0, ErrorCode::data, [&] {
      return str(where_, " has no token for the byte ", shown_bytes(piece.substr(i, 1)),
                 "; a byte-level vocabulary has one for each of the 256");
    });
  }
  return merges_.apply({out, piece.size()});
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, SpecialTokens special) const {
  std::vector<int32_t> tokens(text.size());
  size_t count = 0;
  for (Stretch stretch : stretches(text, special)) {
    if (stretch.added >= 0) {
      tokens[count++] = stretch.added;
      continue;
    }
    while (!stretch.text.empty()) {
      const size_t bytes = first_piece(parts_.rule, stretch.text);
      count += encode_piece(stretch.text.substr(0, bytes), tokens.data() + count);
      stretch.text.remove_prefix(bytes);
    }
  }
  tokens.resize(count);
  return tokens;
}

std::string_view Tokenizer::bytes_of(int32_t token) const {
  check(token >= 0 && token < vocabulary() && !parts_.tokens[size_t(token)].empty(), ErrorCode::data, [&] {
    return str("expected a token of ", where_, ", which has numbers from 0 to ", vocabulary() - 1, ", got ", token,
               "; use the tokenizer that the tokens come from");
  });
  return parts_.tokens[size_t(token)];
}

std::string Tokenizer::decode(std::span<const int32_t> tokens) const {
  std::string text;
  for (const int32_t token : tokens) text += bytes_of(token);
  return text;
}

std::string StreamDecoder::next(int32_t token) {
  held_ += tokenizer_.bytes_of(token);
  std::string whole = std::exchange(held_, "");
  held_ = whole.substr(whole.size() - size_t(incomplete_bytes(whole)));
  whole.resize(whole.size() - held_.size());
  return whole;
}

std::string StreamDecoder::rest() { return std::exchange(held_, ""); }

}  // namespace lockstep
