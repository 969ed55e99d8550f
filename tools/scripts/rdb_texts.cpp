// SPDX-License-Identifier: Apache-2.0
// Writes the texts of an R data file as text files, without R. tools/scripts/fetch_novels.sh compiles it by itself.
// usage: rdb_texts FILE.rdb NAME.txt...
// An .rdb file is a row of blobs: the size of the content in four big-endian bytes, then a zlib stream. The content is
// a value in R's XDR serialisation, version 3; what is read here are vectors of strings, a line of text each. How long
// a blob is compressed only its stream says.
#include <zlib.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

constexpr uint32_t kMostBytes = 1u << 30;

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error(what); }

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  bool at_end() const { return bytes_.empty(); }
  std::string_view take(size_t count) {
    if (count > bytes_.size()) fail("the file is truncated");
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }
  uint32_t number() {
    uint32_t value = 0;
    for (const char byte : take(4)) value = value << 8 | uint8_t(byte);
    return value;
  }
  std::string_view rest() const { return bytes_; }

 private:
  std::string_view bytes_;
};

// Takes the next blob off the file.
std::string next_blob(Reader& file) {
  const uint32_t size = file.number();
  if (size > kMostBytes) fail("a blob says that it has more than 1 GiB");
  std::string content(size, '\0');
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) fail("zlib could not start");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(file.rest().data()));
  stream.avail_in = uInt(file.rest().size());
  stream.next_out = reinterpret_cast<Bytef*>(content.data());
  stream.avail_out = size;
  const int status = inflate(&stream, Z_FINISH);
  const size_t used = stream.total_in, made = stream.total_out;
  inflateEnd(&stream);
  if (status != Z_STREAM_END || made != size) fail("a blob is damaged");
  file.take(used);
  return content;
}

// Numbers of R's serialisation. The flags of a value have its type in the low byte.
constexpr uint32_t kVersion = 3, kTypeBits = 0xff, kStrings = 16, kString = 9, kMissing = 0xffffffff;

std::string lines_of(const std::string& content) {
  Reader value(content);
  if (value.take(2) != "X\n") fail("a blob is not in R's XDR serialisation");
  if (value.number() != kVersion) fail("a blob is not in version 3 of R's serialisation");
  value.take(8);  // the versions of R that wrote it and that can read it
  value.take(value.number());
  if ((value.number() & kTypeBits) != kStrings) fail("a blob is no vector of strings");
  std::string text;
  for (uint32_t left = value.number(); left > 0; --left) {
    if ((value.number() & kTypeBits) != kString) fail("a vector of strings has something else in it");
    const uint32_t bytes = value.number();
    if (bytes != kMissing) text += value.take(bytes);
    text += '\n';
  }
  return text;
}

void write(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file.write(text.data(), std::streamsize(text.size()));
  if (!file.flush()) fail("cannot write '" + path + "'");
}

void run(int count, char** arguments) {
  std::ifstream stream(arguments[1], std::ios::binary);
  if (!stream) fail(std::string("cannot open '") + arguments[1] + "'");
  const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
  Reader file(bytes);
  for (int i = 2; i < count; ++i) write(arguments[i], lines_of(next_blob(file)));
  if (!file.at_end()) fail("the file has more texts than names were given");
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::fprintf(stderr, "usage: rdb_texts FILE.rdb NAME.txt...\n");
    return 2;
  }
  try {
    run(count, arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rdb_texts: error: '%s': %s\n", arguments[1], error.what());
    return 1;
  }
}
