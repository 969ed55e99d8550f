// SPDX-License-Identifier: Apache-2.0
// Files of tokens, as the programs that people train with write them; they are read as hostile input.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "runtime/files/file_descriptor.h"

namespace lockstep {

enum class TokenFormat {
  llmc_u16,      // llm.c, modded-nanogpt: 256 i32 {20240520, 1, tokens, ...}, then u16
  llmc_u32,      // llm.c for Llama 3: {20240801, 7, tokens, ...}, then u32
  raw_u16,       // nanoGPT: u16 and nothing else
  megatron_u16,  // Megatron: X.bin beside X.idx
  megatron_i32,
};
std::string_view to_string(TokenFormat format);

// The header of llm.c has 253 words that nobody reads. Ours says there what the tokens belong to.
struct TokenHeader {
  static constexpr int kWords = 256;
  static constexpr int32_t kMagic16 = 20240520, kMagic32 = 20240801, kMagicEvaluation = 20240522;
  static constexpr int32_t kVersion16 = 1, kVersion32 = 7;
  static constexpr int32_t kOurs = 0x4b434f4c;  // in word 3: the words behind it are these

  int32_t vocabulary = 0;       // word 4
  uint64_t tokenizer_hash = 0;  // words 5 and 6
  uint64_t content_hash = 0;    // words 7 and 8: XXH3 of the bytes of the tokens
};

// An open file of tokens. It must not change while it is open; that is noticed, and named.
class TokenFile {
 public:
  // By content; a file beside an .idx of its name is Megatron's, and .idx opens that, too. Error(file) or Error(data)
  // names the file and what was expected of it.
  explicit TokenFile(const std::string& path);

  const std::string& path() const { return path_; }
  TokenFormat format() const { return format_; }
  int64_t tokens() const { return tokens_; }
  int token_bytes() const { return token_bytes_; }
  // What a header of ours says.
  const std::optional<TokenHeader>& header() const { return header_; }

  // Reads tokens [first, first + out.size()), which the file has. Larger numbers than an i32 holds become negative.
  void read(int64_t first, std::span<int32_t> out) const;
  // The same as they are in the file: out.size() bytes from token `first` on.
  void read_bytes(int64_t first, std::span<std::byte> out) const;

 private:
  void open_llmc(const int32_t* words, int64_t bytes);
  void open_raw(std::span<const std::byte> start);
  void open_megatron(const std::string& index_path);
  void set(TokenFormat format, int64_t offset, int64_t tokens);

  std::string path_;
  ReadableFile file_;
  TokenFormat format_ = TokenFormat::raw_u16;
  int token_bytes_ = 2;
  int64_t offset_ = 0;  // of the first token
  int64_t tokens_ = 0;
  std::optional<TokenHeader> header_;
};

}  // namespace lockstep
