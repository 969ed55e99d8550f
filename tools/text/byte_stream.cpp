// SPDX-License-Identifier: Apache-2.0
#include "tools/text/byte_stream.h"

#include <zlib.h>

#include <algorithm>
#include <vector>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

class PlainStream : public ByteStream {
 public:
  explicit PlainStream(const std::string& path) : ByteStream(path) {}
  int64_t read(char* destination, int64_t bytes) override {
    const int64_t got = read_at(file_.descriptor, path_, destination, bytes, offset_);
    offset_ += got;
    check_unchanged(file_, path_);
    return got;
  }
  void skip(int64_t bytes) override { offset_ += bytes; }
};

// A file of one or more gzip members, one behind the other.
class GzipStream : public ByteStream {
 public:
  explicit GzipStream(const std::string& path) : ByteStream(path), input_(1 << 16) {
    constexpr int kGzipOnly = 16 + MAX_WBITS;
    check(inflateInit2(&stream_, kGzipOnly) == Z_OK, ErrorCode::internal, "zlib could not start");
  }
  GzipStream(const GzipStream&) = delete;
  GzipStream& operator=(const GzipStream&) = delete;
  ~GzipStream() override { inflateEnd(&stream_); }

  int64_t read(char* destination, int64_t bytes) override {
    int64_t done = 0;
    while (done < bytes && fill()) {
      const int64_t piece = std::min(bytes - done, int64_t(1) << 30);  // zlib counts in 32 bits
      stream_.next_out = reinterpret_cast<Bytef*>(destination + done);
      stream_.avail_out = uInt(piece);
      const int status = inflate(&stream_, Z_NO_FLUSH);
      within_ = status != Z_STREAM_END;
      check(!within_ || status == Z_OK || status == Z_BUF_ERROR, ErrorCode::data, [&] {
        return str("'", path_, "' is damaged: zlib says '", stream_.msg ? stream_.msg : "error",
                   "'; use another copy, or a name that does not end with .gz for what is not gzipped");
      });
      done += piece - int64_t(stream_.avail_out);
      if (!within_) inflateReset(&stream_);
    }
    check_unchanged(file_, path_);
    return done;
  }

  void skip(int64_t bytes) override {
    std::vector<char> passed(1 << 16);
    while (bytes > 0) {
      const int64_t got = read(passed.data(), std::min(bytes, int64_t(passed.size())));
      if (got == 0) return;
      bytes -= got;
    }
  }

 private:
  // False behind the last member.
  bool fill() {
    if (stream_.avail_in > 0) return true;
    const int64_t got = read_at(file_.descriptor, path_, input_.data(), int64_t(input_.size()), offset_);
    check(got > 0 || !within_, ErrorCode::data, [&] {
      return str("'", path_, "' is truncated: it ends at byte ", offset_, ", within its gzip stream; use another copy");
    });
    offset_ += got;
    within_ = within_ || got > 0;
    stream_.next_in = input_.data();
    stream_.avail_in = uInt(got);
    return got > 0;
  }

  z_stream stream_{};
  std::vector<uint8_t> input_;
  bool within_ = true;  // of a member; an empty file is none
};

}  // namespace

std::unique_ptr<ByteStream> ByteStream::open(const std::string& path) {
  if (path.ends_with(".gz")) return std::make_unique<GzipStream>(path);
  return std::make_unique<PlainStream>(path);
}

}  // namespace lockstep
