// SPDX-License-Identifier: Apache-2.0
#include "tools/text/text_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "runtime/data/tokens/token_dataset.h"
#include "tests/runtime/text/text_support.h"
#include "tests/support/files.h"
#include "tools/text/tokenize.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

void write_gzip(const std::string& path, const std::string& text) {
  gzFile file = gzopen(path.c_str(), "wb1");
  gzwrite(file, text.data(), unsigned(text.size()));
  gzclose(file);
}

std::string text_of(const std::string& path, ByteRange range) {
  std::string all;
  TextFile file(path, range);
  for (TextPiece piece; file.next(piece);)
    for (const std::string_view text : piece.texts) all += str(text, piece.documents_end ? "|" : "");
  return all;
}

TEST(TextFile, ReadsTextWholeInPieces) {
  TemporaryFolder folder;
  std::string text = mixed_text(1, 100'000);
  while (text.size() < 20'000'000) text += text;  // more than two pieces
  write_file(folder / "t.txt", text);
  write_gzip(folder / "t.txt.gz", text);
  EXPECT_TRUE(text_of(folder / "t.txt", {0, int64_t(text.size())}) == text + "|");
  EXPECT_EQ(content_bytes(folder / "t.txt.gz"), int64_t(text.size()));
  EXPECT_TRUE(text_of(folder / "t.txt.gz", {100, int64_t(text.size()) - 5}) ==
              text.substr(100, text.size() - 105) + "|");
}

TEST(TextFile, ReadsJsonLines) {
  TemporaryFolder folder;
  const std::string lines = "{\"text\": \"one\\ntwo\", \"id\": 3}\r\n\n{\"text\": \"\"}\n{\"text\": \"é\"}";
  write_file(folder / "t.jsonl", lines);
  write_gzip(folder / "t.jsonl.gz", lines);
  EXPECT_EQ(text_of(folder / "t.jsonl", {0, int64_t(lines.size())}), "one\ntwo|é|");
  EXPECT_EQ(text_of(folder / "t.jsonl.gz", {0, int64_t(lines.size())}), "one\ntwo|é|");
  write_file(folder / "t.jsonl", "{\"text\": \"a\"}\n{\"txt\": 1}\n");
  EXPECT_THAT(error_of([&] {
                text_of(folder / "t.jsonl", {0, 25});
              }),
              HasSubstr("t.jsonl':2: expected an object with a \"text\""));
  write_file(folder / "t.jsonl", "{\"text\": \"a\"}\n{\"text\"\n");
  EXPECT_THAT(error_of([&] { text_of(folder / "t.jsonl", {0, 21}); }), HasSubstr("t.jsonl':2 is no JSON"));
}

TEST(TextFile, LeavesTheLastShareOfLinesOut) {
  TemporaryFolder folder;
  const auto split = [&](const std::string& name, const std::string& text, double share) {
    write_file(folder / name, text);
    return find_split(folder / name, int64_t(text.size()), share);
  };
  const std::string ten = "one\ntwo\nthree\nfour\nfive\nsix\nseven\nten\n";
  EXPECT_EQ(ten.substr(size_t(split("a.txt", ten, 0.11))), "ten\n");
  EXPECT_EQ(ten.substr(size_t(split("a.txt", ten, 0.2))), "ten\n");
  EXPECT_EQ(ten.substr(size_t(split("a.txt", ten, 0.5))), "five\nsix\nseven\nten\n");
  EXPECT_EQ(split("b.txt", "0123456789", 0.3), 7);
  EXPECT_EQ(split("b.txt", "012345é日", 0.3), 8);  // not within a character
  EXPECT_THAT(error_of([&] { split("c.jsonl", "{\"text\": \"a\"}\n", 0.1); }),
              HasSubstr("has no line that begins in its last 10 %"));
}

TEST(TextFile, NamesBrokenFiles) {
  TemporaryFolder folder;
  write_file(folder / "empty.txt", "");
  EXPECT_THAT(error_of([&] { content_bytes(folder / "empty.txt"); }), HasSubstr("empty.txt' holds no text"));
  write_gzip(folder / "t.txt.gz", mixed_text(2, 1000));
  const std::string bytes = read_file(folder / "t.txt.gz");
  write_file(folder / "t.txt.gz", bytes.substr(0, bytes.size() / 2));
  EXPECT_THAT(error_of([&] { content_bytes(folder / "t.txt.gz"); }), HasSubstr("t.txt.gz' is truncated"));
  write_file(folder / "t.txt.gz", "no gzip");
  EXPECT_THAT(error_of([&] { content_bytes(folder / "t.txt.gz"); }), HasSubstr("t.txt.gz' is damaged"));
  write_file(folder / "t.txt", "some text");
  TextFile file(folder / "t.txt", {0, 9});
  std::filesystem::resize_file(folder / "t.txt", 4);
  TextPiece piece;
  EXPECT_THAT(error_of([&] { file.next(piece); }), HasSubstr("t.txt' changed while it was read"));
}

TEST(Tokenize, EncodesFilesWithWhatIsLeftOut) {
  TemporaryFolder folder;
  const std::string lines = "aa aa\naa aa\naa aa\naa aa\naa aa\naa aa\naa aa\naa aa\naa aa\n";
  write_file(folder / "a.txt", lines + "aa\n");
  write_file(folder / "b.txt", lines + "aaa\n");
  const TokenizeRun run{.inputs = {folder / "*.txt"}, .threads = 2};
  const Tokenizer tokenizer = train_tokenizer(run, {.vocabulary = 258});
  const EncodeReport report =
      encode_files(run, tokenizer, {.output = folder / "train.bin", .validation = folder / "val.bin"});
  EXPECT_EQ(report.output.bytes + report.validation.bytes, 57 + 58);
  EXPECT_EQ(report.output.documents, 2);
  const auto text = [&](const char* name) {
    const TokenFile file(folder / name);
    std::vector<int32_t> tokens(size_t(file.tokens()));
    file.read(0, tokens);
    return tokenizer.decode(tokens);
  };
  EXPECT_EQ(text("train.bin"), lines + "<|endoftext|>" + lines + "<|endoftext|>");
  EXPECT_EQ(text("val.bin"), "aa\n<|endoftext|>aaa\n<|endoftext|>");
}

}  // namespace
}  // namespace lockstep
