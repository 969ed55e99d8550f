// SPDX-License-Identifier: Apache-2.0
// A byte-level BPE tokenizer: text to the numbers of tokens and back. Any bytes can be encoded; what comes back are the
// same bytes. docs/text.md has the files that it is read from.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/merge_table.h"
#include "runtime/text/pretokenizer.h"

namespace lockstep {

// A token that no merge makes, such as <|endoftext|>.
struct AddedToken {
  std::string text;
  int32_t id = 0;
  bool special = true;  // otherwise it is found in every text
};

// What the files of a tokenizer say.
struct TokenizerParts {
  std::vector<std::string> tokens;  // the bytes of each token by its number; empty where a number has none
  std::vector<Merge> merges;        // by rank
  std::vector<AddedToken> added;    // `tokens` has them, too
  PieceRule rule = PieceRule::gpt2;
  bool whole_pieces = false;  // a piece that is a token is taken whole, whether merges lead to it or not
  std::string end_of_text;    // the special token between documents; empty: there is none
};

// What becomes of the texts of special tokens within a text. Text from elsewhere must not be able to end a document.
enum class SpecialTokens { as_text, recognised };

class Tokenizer {
 public:
  // Error(data), which begins with `where`, for parts that contradict each other: merges of tokens that are not there,
  // two tokens of the same bytes, an added token that is none.
  explicit Tokenizer(TokenizerParts parts, std::string where = "the tokenizer");

  // Reads a folder (tokenizer.json, or vocab.json and merges.txt, or encoder.json and vocab.bpe), one of these files,
  // or a file of ranks (X.tiktoken, or Llama 3's tokenizer.model). Error(file) or Error(data) names the file, the place
  // in it and what was expected.
  static Tokenizer load(const std::string& path);
  // Writes tokenizer.json and tokenizer_config.json as Hugging Face's libraries read them into a folder, which is made
  // where it is missing; each file is there whole or not at all. Loading the folder gives an equal tokenizer.
  void save(const std::string& folder) const;

  // The number of rows that an embedding needs: the highest token and one.
  int32_t vocabulary() const { return int32_t(parts_.tokens.size()); }
  std::optional<int32_t> end_of_text() const { return end_of_text_; }
  // The number of an added token, by its text.
  std::optional<int32_t> added_token(std::string_view text) const;
  const TokenizerParts& parts() const { return parts_; }
  // Over tokens, merges, added tokens and rule. Files of tokens carry it, so that another tokenizer's are noticed.
  uint64_t hash() const { return hash_; }

  // Error(data) for a byte that is no token, which no byte-level vocabulary should lack.
  std::vector<int32_t> encode(std::string_view text, SpecialTokens special = SpecialTokens::as_text) const;
  // The bytes of tokens, which need not be whole characters. Error(data) for a number that no token has.
  std::string decode(std::span<const int32_t> tokens) const;
  std::string_view bytes_of(int32_t token) const;

  // A stretch of text between added tokens, or one of them.
  struct Stretch {
    std::string_view text;
    int32_t added = -1;  // the token that it is
  };
  std::vector<Stretch> stretches(std::string_view text, SpecialTokens special) const;
  // Writes the tokens of one piece of pre-tokenisation to `out`, which has room for one a byte; returns their number.
  size_t encode_piece(std::string_view piece, int32_t* out) const;

 private:
  const AddedToken* added_at(std::string_view text, SpecialTokens special) const;
  std::optional<int32_t> find_token(std::string_view bytes) const;
  void index_tokens();
  void check_merges() const;

  TokenizerParts parts_;
  std::string where_;
  MergeTable merges_;
  std::vector<int32_t> by_bytes_;           // numbers of tokens at the places of their hashes; -1: free
  std::array<int32_t, 256> byte_tokens_{};  // -1: none
  std::array<bool, 256> starts_added_{};    // whether an added token starts with the byte
  std::optional<int32_t> end_of_text_;
  uint64_t hash_ = 0;
};

// Whether `path` is a folder in which Tokenizer::load() finds the files of a tokenizer.
bool holds_tokenizer(const std::string& path);

// Gives text back as its tokens come, in whole characters: bytes that may be the start of one are held back.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  // What can be shown now that `token` has come; bytes that are no UTF-8 are handed on as they are.
  std::string next(int32_t token);
  // The bytes that are still held back; the decoder is as new.
  std::string rest();

 private:
  const Tokenizer& tokenizer_;
  std::string held_;
};

}  // namespace lockstep
