// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/tokens/token_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <vector>

#include "kernels/device/check.h"
#include "runtime/data/tokens/megatron_index.h"

namespace lockstep {
namespace {

constexpr const char* kTokenFileRemedy = "make it anew with `lockstep tokenize encode`, or name another file";

uint64_t join(const int32_t* words) { return uint64_t(uint32_t(words[1])) << 32 | uint32_t(words[0]); }

// Text that somebody forgot to encode reads as tokens, too: it is known by having no byte that text has not.
bool looks_like_text(std::span<const std::byte> start) {
  return std::ranges::all_of(start, [](std::byte value) {
    const int byte = std::to_integer<int>(value);
    return byte >= 0x20 || (byte >= 0x09 && byte <= 0x0d);
  });
}

// X.idx for X.bin, where it exists, and for X.idx itself; empty otherwise.
std::string index_of(const std::string& path) {
  if (path.ends_with(".idx")) return path;
  if (!path.ends_with(".bin")) return "";
  const std::string index = path.substr(0, path.size() - 4) + ".idx";
  std::error_code ignored;
  return std::filesystem::exists(index, ignored) ? index : "";
}

}  // namespace

std::string_view to_string(TokenFormat format) {
  switch (format) {
    case TokenFormat::llmc_u16:
      return "llm.c, 16 bits";
    case TokenFormat::llmc_u32:
      return "llm.c, 32 bits";
    case TokenFormat::raw_u16:
      return "nanoGPT, 16 bits";
    case TokenFormat::megatron_u16:
      return "Megatron, 16 bits";
    case TokenFormat::megatron_i32:
      return "Megatron, 32 bits";
  }
  return "llm.c, 16 bits";
}

TokenFile::TokenFile(const std::string& path) : path_(path) {
  const std::string index = index_of(path);
  if (!index.empty()) path_ = index.substr(0, index.size() - 4) + ".bin";
  file_ = open_to_read(path_, Links::follow);
  check(file_.bytes > 0, ErrorCode::data, [&] { return str("'", path_, "' is empty; ", kTokenFileRemedy); });
  if (!index.empty()) {
    open_megatron(index);
    return;
  }
  std::array<int32_t, TokenHeader::kWords> words{};
  const int64_t got = read_at(file_.descriptor, path_, words.data(), sizeof words, 0);
  const bool evaluation = words[0] == TokenHeader::kMagicEvaluation;
  check(!evaluation, ErrorCode::data,
        [&] { return str("'", path_, "' holds questions of an evaluation by llm.c, expected tokens to train on"); });
  if (words[0] == TokenHeader::kMagic16 || words[0] == TokenHeader::kMagic32)
    open_llmc(words.data(), got);
  else
    open_raw(std::as_bytes(std::span(words)).first(size_t(got)));
}

void TokenFile::set(TokenFormat format, int64_t offset, int64_t tokens) {
  format_ = format;
  token_bytes_ = format == TokenFormat::llmc_u32 || format == TokenFormat::megatron_i32 ? 4 : 2;
  offset_ = offset;
  tokens_ = tokens;
}

void TokenFile::open_llmc(const int32_t* words, int64_t bytes) {
  constexpr int64_t kHeaderBytes = TokenHeader::kWords * int64_t(sizeof(int32_t));
  const bool wide = words[0] == TokenHeader::kMagic32;
  check(bytes == kHeaderBytes, ErrorCode::data, [&] {
    return str("'", path_, "' ends within its header, at byte ", bytes, " of ", kHeaderBytes, "; ", kTokenFileRemedy);
  });
  const int32_t version = wide ? TokenHeader::kVersion32 : TokenHeader::kVersion16;
  check(words[1] == version, ErrorCode::data, [&] {
    return str("'", path_, "' has version ", words[1], " of llm.c's format ", words[0], ", expected ", version, "; ",
               kTokenFileRemedy);
  });
  set(wide ? TokenFormat::llmc_u32 : TokenFormat::llmc_u16, kHeaderBytes, words[2]);
  const int64_t expected = kHeaderBytes + int64_t(words[2]) * token_bytes_;
  check(words[2] >= 0 && file_.bytes == expected, ErrorCode::data, [&] {
    return str("'", path_, "' has ", file_.bytes, " bytes, expected ", expected, " for the ", words[2],
               " tokens of its header; ", kTokenFileRemedy);
  });
  if (words[3] == TokenHeader::kOurs)
    header_ = {.vocabulary = words[4], .tokenizer_hash = join(words + 5), .content_hash = join(words + 7)};
}

void TokenFile::open_raw(std::span<const std::byte> start) {
  check(!looks_like_text(start), ErrorCode::data, [&] {
    return str("'", path_, "' looks like text, expected tokens; encode it with `lockstep tokenize encode`");
  });
  set(TokenFormat::raw_u16, 0, file_.bytes / 2);
  check(file_.bytes % 2 == 0, ErrorCode::data, [&] {
    return str("'", path_, "' has no header of llm.c and an odd number of bytes, ", file_.bytes,
               ", so that it is no row of 16-bit tokens either; ", kTokenFileRemedy);
  });
}

void TokenFile::open_megatron(const std::string& index_path) {
  const MegatronIndex index = read_megatron_index(index_path);
  set(index.token_bytes == 4 ? TokenFormat::megatron_i32 : TokenFormat::megatron_u16, 0, index.tokens);
  check(file_.bytes == tokens_ * token_bytes_, ErrorCode::data, [&] {
    return str("'", path_, "' has ", file_.bytes, " bytes, expected ", tokens_ * token_bytes_, " for the ", tokens_,
               " tokens that '", index_path, "' counts; use two files that belong together");
  });
}

void TokenFile::read_bytes(int64_t first, std::span<std::byte> out) const {
  const int64_t bytes = int64_t(out.size());
  check(first >= 0 && first * token_bytes_ + bytes <= tokens_ * token_bytes_, ErrorCode::internal, [&] {
    return str("expected tokens within the ", tokens_, " of '", path_, "', got ", bytes, " bytes from token ", first);
  });
  (void)read_at(file_.descriptor, path_, out.data(), bytes, offset_ + first * token_bytes_);
  check_unchanged(file_, path_);
}

void TokenFile::read(int64_t first, std::span<int32_t> out) const {
  if (token_bytes_ == 4) return read_bytes(first, std::as_writable_bytes(out));
  // The narrow numbers lie in the second half and are widened from the front: none is overwritten before it is read.
  const std::span<std::byte> half = std::as_writable_bytes(out).subspan(out.size() * 2);
  read_bytes(first, half);
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t token = 0;
    std::memcpy(&token, half.data() + 2 * i, sizeof token);
    out[i] = token;
  }
}

}  // namespace lockstep
