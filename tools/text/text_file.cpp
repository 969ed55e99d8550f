// SPDX-License-Identifier: Apache-2.0
#include "tools/text/text_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kernels/device/check.h"
#include "runtime/files/json_reader.h"
#include "runtime/text/pretokenizer.h"
#include "tools/text/byte_stream.h"

namespace lockstep {
namespace {

constexpr size_t kPieceBytes = 8 << 20;
constexpr size_t kTailBytes = 1 << 16;  // of a piece, in which a place to cut is looked for

bool has_json_lines(std::string_view path) {
  if (path.ends_with(".gz")) path.remove_suffix(3);
  return path.ends_with(".jsonl") || path.ends_with(".json");
}

}  // namespace

TextFile::TextFile(const std::string& path, const ByteRange& range)
    : path_(path), lines_(has_json_lines(path)), stream_(ByteStream::open(path)), left_(range.bytes()) {
  stream_->skip(range.begin);
}

TextFile::~TextFile() = default;

// Moves what is left to the front and reads `bytes` more; false when there is nothing left to read.
bool TextFile::fill(size_t bytes) {
  bytes_read_ += int64_t(used_);
  buffer_.erase(0, used_);
  used_ = 0;
  const size_t before = buffer_.size();
  const int64_t wanted = std::min(left_, int64_t(bytes));
  buffer_.resize(before + size_t(wanted));
  const int64_t got = stream_->read(buffer_.data() + before, wanted);
  check(got == wanted, ErrorCode::file, [&] {
    return str("'", path_, "' ended ", left_ - got,
               " bytes early: it changed while it was read; start again when nothing "
               "writes to it");
  });
  left_ -= got;
  return got > 0;
}

bool TextFile::next(TextPiece& piece) {
  piece = {};
  return lines_ ? next_of_lines(piece) : next_of_text(piece);
}

bool TextFile::next_of_text(TextPiece& piece) {
  size_t cut = 0;
  do {
    if (!fill(kPieceBytes)) break;
    cut = safe_cut(buffer_, buffer_.size() - std::min(buffer_.size() - 1, kTailBytes));
  } while (cut == buffer_.size() && left_ > 0);
  used_ = left_ == 0 ? buffer_.size() : cut;
  if (used_ == 0) return false;
  piece.texts = {std::string_view(buffer_).substr(0, used_)};
  piece.documents_end = left_ == 0;
  return true;
}

bool TextFile::next_of_lines(TextPiece& piece) {
  size_t end = 0;
  do {
    if (!fill(kPieceBytes)) break;
    end = buffer_.rfind('\n') + 1;  // 0 where there is none
  } while (end == 0 && left_ > 0);
  used_ = left_ == 0 ? buffer_.size() : end;
  if (used_ == 0) return false;
  documents_.clear();
  for (std::string_view rest = std::string_view(buffer_).substr(0, used_); !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    ++line_;
    if (line.find_first_not_of(" \t\r") != line.npos) add_document(line, piece);
  }
  piece.texts.assign(documents_.begin(), documents_.end());
  piece.documents_end = true;
  return true;
}

void TextFile::add_document(std::string_view line, TextPiece& piece) {
  const std::string where = str("'", path_, "':", line_);
  const Json json = parse_json(line, where);
  const bool has_text = json.is_object() && json.contains("text") && json["text"].is_string();
  check(has_text, ErrorCode::data, [&] {
    return str(where, ": expected an object with a \"text\", got ",
               json.is_object() && json.contains("text") ? "a \"text\" that is " + shown(json["text"]) : shown(json));
  });
  if (json["text"].get_ref<const std::string&>().empty())
    ++piece.empty_documents;
  else
    documents_.push_back(json["text"].get<std::string>());
}

int64_t content_bytes(const std::string& path) {
  int64_t bytes = 0;
  if (path.ends_with(".gz")) {
    const auto stream = ByteStream::open(path);
    std::vector<char> passed(1 << 20);
    while (const int64_t got = stream->read(passed.data(), int64_t(passed.size()))) bytes += got;
  } else {
    bytes = open_to_read(path, Links::follow).bytes;
  }
  check(bytes > 0, ErrorCode::data, [&] { return str("'", path, "' holds no text: it is empty; leave it away"); });
  return bytes;
}

int64_t find_split(const std::string& path, int64_t bytes, double share) {
  const auto stream = ByteStream::open(path);
  const int64_t from = std::max<int64_t>(1, bytes - int64_t(double(bytes) * share));
  // The byte before may end a line, so that one begins right there.
  stream->skip(from - 1);
  std::string piece(1 << 16, '\0');
  int64_t at = from - 1;
  std::string first;
  while (const int64_t got = stream->read(piece.data(), int64_t(piece.size()))) {
    const std::string_view read = std::string_view(piece).substr(0, size_t(got));
    if (first.empty()) first = read;
    const size_t line_end = read.find('\n');
    if (line_end != read.npos && at + int64_t(line_end) + 1 < bytes) return at + int64_t(line_end) + 1;
    if (line_end != read.npos) break;
    at += got;
  }
  check(!has_json_lines(path), ErrorCode::data, [&] {
    return str("'", path, "' has no line that begins in its last ", share * 100,
               " %, to be left out; give it more documents, or a larger share");
  });
  const auto continues = [&](size_t i) { return i < first.size() && (uint8_t(first[i]) & 0xc0) == 0x80; };
  int64_t cut = from;
  while (cut - from < 3 && continues(size_t(cut - from) + 1)) ++cut;
  check(cut < bytes, ErrorCode::data,
        [&] { return str("'", path, "' has ", bytes, " bytes, too few to leave a share of them out"); });
  return cut;
}

}  // namespace lockstep
