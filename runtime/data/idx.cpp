// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/idx.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "kernels/device/check.h"
#include "runtime/files/file_descriptor.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxValues = int64_t(1) << 32;
constexpr int64_t kMaxDeflateRatio = 1032;  // deflate cannot shrink more: 258 bytes into two bits
constexpr uint8_t kUnsignedBytes = 0x08;    // the IDX code of the element type

// Gives the bytes of a file one behind the other: of a gzip file those of its members, of any other its own.
class ByteReader {
 public:
  explicit ByteReader(std::string path) : path_(std::move(path)), file_(open_to_read(path_, Links::follow)) {
    zipped_ = member_begins_at(0);
    constexpr int kGzipOnly = 16 + MAX_WBITS;
    check(inflateInit2(&stream_, kGzipOnly) == Z_OK, ErrorCode::internal, "zlib could not start");
  }
  ByteReader(const ByteReader&) = delete;
  ByteReader& operator=(const ByteReader&) = delete;
  ~ByteReader() { inflateEnd(&stream_); }

  const std::string& path() const { return path_; }
  int64_t bytes_of_file() const { return file_.bytes; }
  int64_t most_bytes() const { return zipped_ ? file_.bytes * kMaxDeflateRatio : file_.bytes; }

  // Fills `out` as far as the bytes go; returns their number.
  int64_t read(std::span<uint8_t> out) {
    if (!zipped_) {
      const int64_t got = read_at(file_.descriptor, path_, out.data(), int64_t(out.size()), offset_);
      offset_ += got;
      return got;
    }
    int64_t done = 0;
    while (done < int64_t(out.size()) && !ended_) {
      const size_t piece = std::min(out.size() - size_t(done), size_t(1) << 30);  // zlib counts in 32 bits
      stream_.next_out = out.data() + done;
      stream_.avail_out = uInt(piece);
      inflate_some();
      done += int64_t(piece - stream_.avail_out);
    }
    return done;
  }

  // The bytes must end here, the checksum of a stream must hold, and the file must end with it.
  void expect_end() {
    uint8_t extra = 0;
    check(read({&extra, 1}) == 0, ErrorCode::data,
          [&] { return str("'", path_, "' holds more values than its header says; ", kDatasetRemedy); });
    check(stream_.avail_in == 0 && offset_ == file_.bytes, ErrorCode::data,
          [&] { return str("'", path_, "' goes on behind the end of its gzip stream; ", kDatasetRemedy); });
  }

 private:
  bool member_begins_at(int64_t offset) {
    uint8_t magic[2] = {};
    return read_at(file_.descriptor, path_, magic, 2, offset) == 2 && magic[0] == 0x1f && magic[1] == 0x8b;
  }

  void inflate_some() {
    if (stream_.avail_in == 0) {
      const int64_t got = read_at(file_.descriptor, path_, input_.data(), int64_t(input_.size()), offset_);
      check(got > 0, ErrorCode::data, [&] {
        return str("'", path_, "' is truncated: it ends at byte ", offset_, ", within its gzip stream; ",
                   kDatasetRemedy);
      });
      offset_ += got;
      stream_.next_in = input_.data();
      stream_.avail_in = uInt(got);
    }
    const int status = inflate(&stream_, Z_NO_FLUSH);
    const bool member_ended = status == Z_STREAM_END;
    ended_ = member_ended && !member_begins_at(offset_ - int64_t(stream_.avail_in));
    if (member_ended && !ended_) inflateReset(&stream_);
    check(member_ended || status == Z_OK || status == Z_BUF_ERROR, ErrorCode::data, [&] {
      return str("'", path_, "' is damaged: zlib says '", stream_.msg ? stream_.msg : "error", "'; ", kDatasetRemedy);
    });
  }

  std::string path_;
  ReadableFile file_;
  z_stream stream_{};
  std::array<uint8_t, 1 << 16> input_;
  bool zipped_ = false;
  int64_t offset_ = 0;  // in the file, behind the contents of `input_`
  bool ended_ = false;
};

// Reads two zero bytes, the type, the number of dimensions, and each size as four big-endian bytes.
std::vector<int64_t> read_sizes(ByteReader& file, int dimensions) {
  std::vector<uint8_t> header(4 + 4 * size_t(dimensions));
  const int64_t got = file.read(header);
  check(got == int64_t(header.size()), ErrorCode::data,
        [&] { return str("'", file.path(), "' has ", got, " bytes, fewer than its header needs; ", kDatasetRemedy); });
  check(header[0] == 0 && header[1] == 0 && header[2] == kUnsignedBytes && header[3] == dimensions, ErrorCode::data,
        [&] {
          return str("'", file.path(), "' starts with the numbers ", int(header[0]), " ", int(header[1]), " ",
                     int(header[2]), " ", int(header[3]), ", expected 0 0 8 ", dimensions, " (IDX, bytes, ", dimensions,
                     " dimensions), or 31 139 for gzip; ", kDatasetRemedy);
        });
  std::vector<int64_t> sizes;
  for (size_t i = 4; i < header.size(); i += 4)
    sizes.push_back(int64_t(header[i]) << 24 | int64_t(header[i + 1]) << 16 | int64_t(header[i + 2]) << 8 |
                    int64_t(header[i + 3]));
  return sizes;
}

}  // namespace

IdxArray read_idx(const std::string& path, int dimensions) {
  ByteReader file(path);
  IdxArray array;
  array.sizes = read_sizes(file, dimensions);
  int64_t values = 1;
  for (const int64_t size : array.sizes)
    check(!__builtin_mul_overflow(values, size, &values) && values <= kMaxValues, ErrorCode::data,
          [&] { return str("'", path, "' announces more than ", kMaxValues, " values; ", kDatasetRemedy); });
  const int64_t possible = file.most_bytes();
  check(values <= possible, ErrorCode::data, [&] {
    return str("'", path, "' announces ", values, " values, but its ", file.bytes_of_file(),
               " bytes cannot hold more than ", possible, "; ", kDatasetRemedy);
  });
  array.values.resize(size_t(values));
  const int64_t got = file.read(array.values);
  check(got == values, ErrorCode::data, [&] {
    return str("'", path, "' holds ", got, " values, expected ", values, " by its header; ", kDatasetRemedy);
  });
  file.expect_end();
  return array;
}

}  // namespace lockstep
