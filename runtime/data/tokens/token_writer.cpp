// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/tokens/token_writer.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "kernels/device/check.h"
#include "runtime/data/tokens/token_file.h"
#include "runtime/files/atomic_file.h"

namespace lockstep {
namespace {

constexpr int64_t kNarrowVocabulary = 65536;

}  // namespace

class TokenWriter::Shard {
 public:
  Shard(const std::string& path, const TokenWriterSettings& settings)
      : path_(path), wide_(settings.vocabulary > kNarrowVocabulary), file_(path) {
    XXH3_INITSTATE(&hash_);
    XXH3_64bits_reset(&hash_);
    words_[0] = wide_ ? TokenHeader::kMagic32 : TokenHeader::kMagic16;
    words_[1] = wide_ ? TokenHeader::kVersion32 : TokenHeader::kVersion16;
    words_[3] = TokenHeader::kOurs;
    words_[4] = int32_t(settings.vocabulary);
    split(settings.tokenizer_hash, 5);
    file_.write(words_.data(), sizeof words_);
  }

  int64_t tokens() const { return tokens_; }

  void append(std::span<const int32_t> tokens) {
    tokens_ += int64_t(tokens.size());
    if (wide_) return write(tokens.data(), tokens.size_bytes());
    narrow_.assign(tokens.begin(), tokens.end());
    write(narrow_.data(), narrow_.size() * sizeof(uint16_t));
  }

  // Completes the header, which could not be known before.
  WrittenTokens complete() {
    const uint64_t content = XXH3_64bits_digest(&hash_);
    words_[2] = int32_t(tokens_);
    split(content, 7);
    file_.overwrite(words_.data(), sizeof words_, 0);
    return {path_, tokens_, content};
  }
  void commit() { file_.commit(); }

 private:
  void split(uint64_t value, size_t word) {
    words_[word] = int32_t(uint32_t(value));
    words_[word + 1] = int32_t(uint32_t(value >> 32));
  }
  void write(const void* bytes, size_t count) {
    XXH3_64bits_update(&hash_, bytes, count);
    file_.write(bytes, int64_t(count));
  }

  std::string path_;
  bool wide_;
  AtomicFile file_;
  XXH3_state_t hash_;
  std::array<int32_t, TokenHeader::kWords> words_{};
  int64_t tokens_ = 0;
  std::vector<uint16_t> narrow_;
};

std::string shard_path(const std::string& path, size_t number) {
  std::array<char, 32> digits;
  std::snprintf(digits.data(), digits.size(), "_%06zu", number);
  const std::string ending = path.ends_with(".bin") ? ".bin" : "";
  return path.substr(0, path.size() - ending.size()) + digits.data() + ending;
}

TokenWriter::TokenWriter(const TokenWriterSettings& settings) : settings_(settings) {
  check(settings.vocabulary >= 1 && settings.vocabulary <= kMostTokens, ErrorCode::usage,
        [&] { return str("expected a vocabulary of 1 to ", kMostTokens, " tokens, got ", settings.vocabulary); });
  check(settings.shard_tokens >= 0 && settings.shard_tokens <= kMostTokens, ErrorCode::usage,
        [&] { return str("expected shards of 1 to ", kMostTokens, " tokens, got ", settings.shard_tokens); });
  open_shard();
}

TokenWriter::~TokenWriter() = default;

void TokenWriter::open_shard() {
  const std::string path = settings_.shard_tokens > 0 ? shard_path(settings_.path, shards_.size()) : settings_.path;
  shards_.push_back(std::make_unique<Shard>(path, settings_));
}

void TokenWriter::append(std::span<const int32_t> tokens) {
  const int64_t most = settings_.shard_tokens > 0 ? settings_.shard_tokens : kMostTokens;
  while (!tokens.empty()) {
    if (shards_.back()->tokens() == most) {
      check(settings_.shard_tokens > 0, ErrorCode::usage, [&] {
        return str("'", settings_.path, "' would have more than ", kMostTokens,
                   " tokens, the most that one file can count; write several: --shard-tokens 100000000");
      });
      open_shard();
    }
    const size_t count = size_t(std::min(int64_t(tokens.size()), most - shards_.back()->tokens()));
    shards_.back()->append(tokens.first(count));
    tokens = tokens.subspan(count);
  }
}

std::vector<WrittenTokens> TokenWriter::finish() {
  check(shards_.front()->tokens() > 0, ErrorCode::data,
        [&] { return str("there are no tokens to write into '", settings_.path, "'; give it some text"); });
  std::vector<WrittenTokens> written;
  for (const auto& shard : shards_) written.push_back(shard->complete());
  for (const auto& shard : shards_) shard->commit();
  return written;
}

}  // namespace lockstep
