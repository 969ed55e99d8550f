// SPDX-License-Identifier: Apache-2.0
// Files of text as documents: plain text is one, JSON lines have one a line, in "text"; either may be gzipped. Files
// are read in pieces, so that they may be larger than memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

class ByteStream;

// A stretch of a file's content, after it was decompressed.
struct ByteRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t bytes() const { return end - begin; }
};

// What is read of a file at once: whole documents, or a piece of one that ends where any tokenizer would cut.
struct TextPiece {
  std::vector<std::string_view> texts;  // valid until the next piece is read
  bool documents_end = false;           // behind each of them
  int64_t empty_documents = 0;          // were passed over
};

class TextFile {
 public:
  // Reads the range of the file at `path`; its name says what it is: .jsonl or .json are JSON lines, .gz is gzipped.
  // Error(file) or Error(data) names the file, and the line of a document that is none.
  TextFile(const std::string& path, const ByteRange& range);
  TextFile(const TextFile&) = delete;
  TextFile& operator=(const TextFile&) = delete;
  ~TextFile();

  // False at the end of the range. A file that has changed since it was opened is Error(file).
  bool next(TextPiece& piece);
  // How far it has been read, within the range.
  int64_t bytes_read() const { return bytes_read_; }

 private:
  bool next_of_text(TextPiece& piece);
  bool next_of_lines(TextPiece& piece);
  bool fill(size_t bytes);
  void add_document(std::string_view line, TextPiece& piece);

  std::string path_;
  bool lines_;
  std::unique_ptr<ByteStream> stream_;
  int64_t left_;            // bytes of the range that have not been read
  int64_t bytes_read_ = 0;  // and been handed out
  std::string buffer_;      // read, and handed out up to used_
  size_t used_ = 0;
  int64_t line_ = 0;
  std::vector<std::string> documents_;  // of JSON lines
};

// The bytes of a file's content. Error(data) for one that has none.
int64_t content_bytes(const std::string& path);

// Where the last `share` of the content begins: with the first line that begins within it. Plain text without one is
// cut between characters; JSON lines without one are Error(data). Share is in (0, 1).
int64_t find_split(const std::string& path, int64_t bytes, double share);

}  // namespace lockstep
