// SPDX-License-Identifier: Apache-2.0
// Writes files of tokens in llm.c's format. All of them are there whole, or none is.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace lockstep {

struct TokenWriterSettings {
  std::string path;        // of the only file; with shards train.bin becomes train_000000.bin, train_000001.bin, ...
  int64_t vocabulary = 0;  // tokens are below it; up to 65536 they take 16 bits, otherwise 32
  uint64_t tokenizer_hash = 0;
  int64_t shard_tokens = 0;  // that a file holds at most; 0: there is one file
};

struct WrittenTokens {
  std::string path;
  int64_t tokens = 0;
  uint64_t content_hash = 0;  // XXH3 of the bytes of its tokens, which its header has, too
};

class TokenWriter {
 public:
  // The most tokens that the header can count.
  static constexpr int64_t kMostTokens = 0x7fffffff;

  // Error(file) where nothing can be written; Error(usage) for a vocabulary or shards that cannot be.
  explicit TokenWriter(const TokenWriterSettings& settings);
  TokenWriter(const TokenWriter&) = delete;
  TokenWriter& operator=(const TokenWriter&) = delete;
  ~TokenWriter();  // without finish() nothing is left behind

  // Error(usage) where one file cannot hold them.
  void append(std::span<const int32_t> tokens);
  // Puts all files in their places. Error(data) when there are no tokens.
  std::vector<WrittenTokens> finish();

 private:
  class Shard;
  void open_shard();

  TokenWriterSettings settings_;
  std::vector<std::unique_ptr<Shard>> shards_;
};

// The name of shard `number` of `path`: "train.bin" -> "train_000007.bin".
std::string shard_path(const std::string& path, size_t number);

}  // namespace lockstep
