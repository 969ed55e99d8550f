// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/tokens/megatron_index.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "kernels/device/check.h"
#include "runtime/files/file_descriptor.h"

namespace lockstep {
namespace {

constexpr std::array<char, 9> kMagic = {'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0};
constexpr int64_t kHeaderBytes = 9 + 8 + 1 + 8 + 8;
constexpr uint8_t kI32 = 4, kU16 = 8;
constexpr int64_t kPiece = 1 << 16;  // sequences that are looked at together
constexpr const char* kIndexRemedy = "make it anew with Megatron's preprocess_data.py, or name another file";

template <class T>
T number_at(const std::array<char, kHeaderBytes>& header, size_t place) {
  T value;
  std::memcpy(&value, header.data() + place, sizeof value);
  return value;
}

// Throws unless each sequence begins where the one before it ends.
int64_t count_tokens(const ReadableFile& file, const std::string& path, const MegatronIndex& index) {
  const int64_t lengths_at = kHeaderBytes, places_at = kHeaderBytes + 4 * index.sequences;
  std::vector<int32_t> lengths;
  std::vector<int64_t> places;
  int64_t tokens = 0;
  for (int64_t begin = 0; begin < index.sequences; begin += kPiece) {
    const int64_t count = std::min(kPiece, index.sequences - begin);
    lengths.resize(size_t(count));
    places.resize(size_t(count));
    (void)read_at(file.descriptor, path, lengths.data(), 4 * count, lengths_at + 4 * begin);
    (void)read_at(file.descriptor, path, places.data(), 8 * count, places_at + 8 * begin);
    for (int64_t i = 0; i < count; ++i) {
      const int32_t length = lengths[size_t(i)];
      const int64_t place = places[size_t(i)];
      check(length >= 0 && place == tokens * index.token_bytes, ErrorCode::data, [&] {
        return str("'", path, "': sequence ", begin + i, " has ", length, " tokens and begins at byte ", place,
                   ", expected it to begin at byte ", tokens * index.token_bytes, ", where the one before it ends; ",
                   kIndexRemedy);
      });
      tokens += length;
    }
  }
  return tokens;
}

}  // namespace

MegatronIndex read_megatron_index(const std::string& path) {
  const ReadableFile file = open_to_read(path, Links::follow);
  std::array<char, kHeaderBytes> header{};
  const int64_t got = read_at(file.descriptor, path, header.data(), kHeaderBytes, 0);
  check(got == kHeaderBytes && std::equal(kMagic.begin(), kMagic.end(), header.begin()), ErrorCode::data, [&] {
    return str("'", path, "' is no index of Megatron: expected it to start with MMIDIDX and to have ", kHeaderBytes,
               " bytes at least, got ", got, " bytes; ", kIndexRemedy);
  });
  const uint64_t version = number_at<uint64_t>(header, 9);
  check(version == 1, ErrorCode::data,
        [&] { return str("'", path, "' is an index of version ", version, ", expected 1; ", kIndexRemedy); });
  const uint8_t type = number_at<uint8_t>(header, 17);
  check(type == kI32 || type == kU16, ErrorCode::data, [&] {
    return str("'", path, "' is of tokens of type ", int(type), ", expected 8 (u16) or 4 (i32); ", kIndexRemedy);
  });
  MegatronIndex index{.token_bytes = type == kI32 ? 4 : 2};
  const uint64_t sequences = number_at<uint64_t>(header, 18), documents = number_at<uint64_t>(header, 26);
  // No number may be so large that the sum below overflows.
  constexpr uint64_t kMost = uint64_t(1) << 56;
  check(sequences < kMost && documents < kMost &&
            uint64_t(file.bytes) == uint64_t(kHeaderBytes) + 12 * sequences + 8 * documents,
        ErrorCode::data, [&] {
          return str("'", path, "' has ", file.bytes, " bytes, which do not fit the ", sequences, " sequences and ",
                     documents, " entries of documents of its header; ", kIndexRemedy);
        });
  index.sequences = int64_t(sequences);
  index.tokens = count_tokens(file, path, index);
  check_unchanged(file, path);
  return index;
}

}  // namespace lockstep
