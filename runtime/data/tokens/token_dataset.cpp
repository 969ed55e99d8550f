// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/tokens/token_dataset.h"

#include <glob.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <iomanip>
#include <set>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

std::string hex(uint64_t hash) { return str(std::hex, std::setw(16), std::setfill('0'), hash); }

constexpr int64_t kBlock = 1 << 20;  // tokens that are scanned and hashed together

template <class T>
uint32_t highest_of(std::span<const std::byte> bytes) {
  const T* tokens = reinterpret_cast<const T*>(bytes.data());
  T highest = 0;
  for (size_t i = 0; i < bytes.size() / sizeof(T); ++i) highest = std::max(highest, tokens[i]);
  return highest;
}

template <class T>
int64_t first_at_or_above(std::span<const std::byte> bytes, int64_t bound) {
  const T* tokens = reinterpret_cast<const T*>(bytes.data());
  size_t i = 0;
  while (int64_t(tokens[i]) < bound) ++i;
  return int64_t(i);
}

void check_block(const TokenFile& file, int64_t first, std::span<const std::byte> bytes, int64_t vocabulary,
                 TokenScan& scan) {
  const bool wide = file.token_bytes() == 4;
  const uint32_t highest = wide ? highest_of<uint32_t>(bytes) : highest_of<uint16_t>(bytes);
  check(int64_t(highest) < vocabulary, ErrorCode::data, [&] {
    const int64_t at =
        wide ? first_at_or_above<uint32_t>(bytes, vocabulary) : first_at_or_above<uint16_t>(bytes, vocabulary);
    uint32_t token = 0;
    std::memcpy(&token, bytes.data() + at * file.token_bytes(), size_t(file.token_bytes()));
    return str("'", file.path(), "' has the token ", token, " at position ", first + at, ", expected less than ",
               vocabulary, ", the size of the vocabulary; encode the text with the tokenizer of this model");
  });
  scan.highest = std::max(scan.highest, int32_t(highest));
}

uint64_t scan_file(const TokenFile& file, int64_t vocabulary, TokenScan& scan) {
  std::vector<std::byte> memory(size_t(kBlock * file.token_bytes()));
  XXH3_state_t whole;
  XXH3_INITSTATE(&whole);
  XXH3_64bits_reset(&whole);
  for (int64_t first = 0; first < file.tokens(); first += kBlock) {
    const int64_t count = std::min(kBlock, file.tokens() - first);
    const std::span<std::byte> bytes = std::span(memory).first(size_t(count * file.token_bytes()));
    file.read_bytes(first, bytes);
    check_block(file, first, bytes, vocabulary, scan);
    XXH3_64bits_update(&whole, bytes.data(), bytes.size());
    scan.tokens += count;
  }
  return XXH3_64bits_digest(&whole);
}

}  // namespace

std::vector<std::string> expand_patterns(const std::vector<std::string>& patterns) {
  std::vector<std::string> names;
  for (const std::string& pattern : patterns) {
    glob_t found{};
    // GLOB_NOCHECK: a name without a match stays as it is, and opening it says what is wrong.
    const bool is_pattern = pattern.find_first_of("*?[") != pattern.npos;
    const int result = ::glob(pattern.c_str(), is_pattern ? 0 : GLOB_NOCHECK | GLOB_NOESCAPE, nullptr, &found);
    const size_t before = names.size();
    if (result == 0) names.insert(names.end(), found.gl_pathv, found.gl_pathv + found.gl_pathc);
    ::globfree(&found);
    check(names.size() > before, ErrorCode::file,
          [&] { return str("expected files that match '", pattern, "', found none; check folder and spelling"); });
    std::sort(names.begin() + std::ptrdiff_t(before), names.end());
  }
  return names;
}

TokenDataset::TokenDataset(const std::vector<std::string>& patterns, int64_t sequence_length)
    : sequence_length_(sequence_length), first_samples_{0} {
  check(sequence_length >= 1, ErrorCode::usage,
        [&] { return str("expected a sequence length of at least 1 token, got ", sequence_length); });
  std::vector<std::string> names = expand_patterns(patterns);
  check(!names.empty(), ErrorCode::usage, "expected files of tokens, got none");
  // A pattern like data/* takes Megatron's index, too, which its other file brings along.
  if (names.size() > 1) std::erase_if(names, [](const std::string& name) { return name.ends_with(".idx"); });
  std::set<std::string> seen;
  int64_t longest = 0;
  for (const std::string& name : names) {
    const TokenFile& file = files_.emplace_back(name);
    check(seen.insert(file.path()).second, ErrorCode::usage,
          [&] { return str("'", file.path(), "' is named twice; name each file of tokens once"); });
    longest = std::max(longest, file.tokens());
    first_samples_.push_back(first_samples_.back() + (std::max<int64_t>(file.tokens(), 1) - 1) / sequence_length);
  }
  check(samples() > 0, ErrorCode::data, [&] {
    return str("'", files_.front().path(), "' has ", longest, " tokens",
               files_.size() > 1 ? str(" at most, like all ", files_.size(), " files") : "", ", fewer than the ",
               sequence_length + 1, " of one sample of ", sequence_length,
               "; give more text, or a shorter sequence length");
  });
}

int64_t TokenDataset::tokens() const {
  int64_t sum = 0;
  for (const TokenFile& file : files_) sum += file.tokens();
  return sum;
}

void TokenDataset::check_tokenizer(uint64_t tokenizer_hash, int64_t vocabulary) const {
  for (const TokenFile& file : files_) {
    if (!file.header()) continue;
    check(file.header()->vocabulary <= vocabulary, ErrorCode::data, [&] {
      return str("'", file.path(), "' was encoded with a vocabulary of ", file.header()->vocabulary,
                 ", expected at most ", vocabulary, "; encode the text with the tokenizer of this model");
    });
    check(file.header()->tokenizer_hash == tokenizer_hash, ErrorCode::data, [&] {
      return str("'", file.path(), "' was encoded with another tokenizer than the one given (its hash is ",
                 hex(file.header()->tokenizer_hash), ", not ", hex(tokenizer_hash), "); encode the text anew");
    });
  }
}

TokenScan TokenDataset::scan(int64_t vocabulary, int64_t part, int64_t parts) const {
  TokenScan scan;
  for (int64_t i = part; i < int64_t(files_.size()); i += parts) {
    const TokenFile& file = files_[size_t(i)];
    const uint64_t hash = scan_file(file, vocabulary, scan);
    check(!file.header() || file.header()->content_hash == hash, ErrorCode::data, [&] {
      return str("'", file.path(), "' is damaged: its tokens have the hash ", hex(hash), ", expected ",
                 hex(file.header()->content_hash), " by its header; encode the text anew");
    });
    const uint64_t place[] = {uint64_t(i), hash};
    scan.content_hash += XXH3_64bits(place, sizeof place);
  }
  return scan;
}

void TokenDataset::read(int64_t sample, std::span<int32_t> tokens, std::span<int32_t> targets) const {
  check(sample >= 0 && sample < samples() && int64_t(tokens.size()) == sequence_length_ &&
            tokens.size() == targets.size(),
        ErrorCode::internal, [&] {
          return str("expected a sample below ", samples(), " and room for ", sequence_length_,
                     " tokens and targets, got ", sample, ", ", tokens.size(), " and ", targets.size());
        });
  const auto behind = std::upper_bound(first_samples_.begin(), first_samples_.end(), sample);
  const size_t file = size_t(behind - first_samples_.begin()) - 1;
  const int64_t first = (sample - first_samples_[file]) * sequence_length_;
  files_[file].read(first, tokens);
  int32_t last = 0;
  files_[file].read(first + sequence_length_, {&last, 1});
  std::copy(tokens.begin() + 1, tokens.end(), targets.begin());
  targets.back() = last;
}

}  // namespace lockstep
