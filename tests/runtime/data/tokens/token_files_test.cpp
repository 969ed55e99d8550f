// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "runtime/data/tokens/token_dataset.h"
#include "runtime/data/tokens/token_loader.h"
#include "runtime/data/tokens/token_writer.h"
#include "tests/support/files.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Numbers = std::vector<int32_t>;

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// A file of llm.c as its own programs write it.
std::string llmc(const Numbers& start, const std::string& tokens) {
  Numbers header = start;
  header.resize(TokenHeader::kWords);
  return bytes_of(header) + tokens;
}

std::string megatron(uint8_t type, const Numbers& lengths, int token_bytes) {
  std::string index("MMIDIDX\0\0", 9);
  const auto number = [&](auto value) { index.append(reinterpret_cast<const char*>(&value), sizeof value); };
  number(uint64_t(1));
  number(type);
  number(uint64_t(lengths.size()));
  number(uint64_t(2));
  index += bytes_of(lengths);
  int64_t place = 0;
  for (const int32_t length : lengths) {
    number(place);
    place += length * token_bytes;
  }
  number(int64_t(0));
  number(int64_t(lengths.size()));
  return index;
}

Numbers counted(size_t count, int32_t first = 0) {
  Numbers numbers(count);
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}
std::vector<uint16_t> narrow(const Numbers& numbers) { return {numbers.begin(), numbers.end()}; }

std::vector<WrittenTokens> write(const std::string& path, const Numbers& tokens, int64_t vocabulary = 1000,
                                 int64_t shard = 0) {
  TokenWriter writer({.path = path, .vocabulary = vocabulary, .tokenizer_hash = 7, .shard_tokens = shard});
  writer.append(std::span(tokens).first(tokens.size() / 2));
  writer.append(std::span(tokens).subspan(tokens.size() / 2));
  return writer.finish();
}

Numbers all_of(const std::string& path) {
  const TokenFile file(path);
  Numbers tokens(size_t(file.tokens()));
  file.read(0, tokens);
  return tokens;
}

TEST(TokenFiles, AreReadInEachFormat) {
  TemporaryFolder folder;
  const Numbers tokens = {5, 65535, 0, 258, 3}, wide = {5, 128255, 0, 70000};
  write_file(folder / "a.bin", llmc({20240520, 1, 5}, bytes_of(narrow(tokens))));
  write_file(folder / "b.bin", llmc({20240801, 7, 4}, bytes_of(wide)));
  write_file(folder / "c.bin", bytes_of(narrow(tokens)));
  write_file(folder / "d.bin", bytes_of(narrow(tokens)));
  write_file(folder / "d.idx", megatron(8, {2, 0, 3}, 2));
  write_file(folder / "e.bin", bytes_of(wide));
  write_file(folder / "e.idx", megatron(4, {1, 3}, 4));
  EXPECT_EQ(all_of(folder / "a.bin"), tokens);
  EXPECT_EQ(all_of(folder / "b.bin"), wide);
  EXPECT_EQ(all_of(folder / "c.bin"), tokens);
  EXPECT_EQ(all_of(folder / "d.bin"), tokens);
  EXPECT_EQ(all_of(folder / "d.idx"), tokens);
  EXPECT_EQ(all_of(folder / "e.bin"), wide);
  EXPECT_EQ(TokenFile(folder / "c.bin").format(), TokenFormat::raw_u16);
  EXPECT_EQ(TokenFile(folder / "d.bin").format(), TokenFormat::megatron_u16);
}

TEST(TokenFiles, AreWrittenAsLlmcReadsThem) {
  TemporaryFolder folder;
  const Numbers tokens = counted(300);
  const auto written = write(folder / "a.bin", tokens);
  const std::string bytes = read_file(folder / "a.bin");
  int32_t header[3];
  std::memcpy(header, bytes.data(), sizeof header);
  EXPECT_THAT(header, ElementsAre(20240520, 1, 300));
  EXPECT_EQ(bytes.substr(1024), bytes_of(narrow(tokens)));
  const TokenFile file(folder / "a.bin");
  EXPECT_EQ(file.header()->vocabulary, 1000);
  EXPECT_EQ(file.header()->tokenizer_hash, 7u);
  EXPECT_EQ(file.header()->content_hash, written[0].content_hash);
  write(folder / "b.bin", {1, 99999}, 100000);
  EXPECT_EQ(TokenFile(folder / "b.bin").format(), TokenFormat::llmc_u32);
  EXPECT_EQ(all_of(folder / "b.bin"), Numbers({1, 99999}));
}

TEST(TokenFiles, ComeInShardsOrNotAtAll) {
  TemporaryFolder folder;
  const auto written = write(folder / "train.bin", counted(25), 1000, 10);
  ASSERT_EQ(written.size(), 3u);
  EXPECT_EQ(written[2].path, folder / "train_000002.bin");
  EXPECT_EQ(all_of(folder / "train_000001.bin"), counted(10, 10));
  EXPECT_EQ(all_of(folder / "train_000002.bin"), counted(5, 20));
  {
    TokenWriter writer({.path = folder / "other.bin", .vocabulary = 10});
    writer.append(counted(3));
  }
  EXPECT_EQ(folder.names().size(), 3u);
  EXPECT_THAT(error_of([&] { TokenWriter({.path = folder / "other.bin", .vocabulary = 10}).finish(); }),
              HasSubstr("there are no tokens to write"));
}

TEST(TokenFiles, SayWhatIsWrongWithThem) {
  TemporaryFolder folder;
  const auto expect = [&](const char* message, const std::string& bytes, const std::string& index = "") {
    write_file(folder / "x.bin", bytes);
    if (!index.empty()) write_file(folder / "x.idx", index);
    EXPECT_THAT(error_of([&] { TokenFile(folder / "x.bin"); }), AllOf(HasSubstr(message), HasSubstr(folder / "x.")));
  };
  const std::string tokens = bytes_of(narrow({1, 2, 3}));
  expect("is empty", "");
  expect("has 1028 bytes, expected 1030 for the 3 tokens", llmc({20240520, 1, 3}, tokens.substr(2)));
  expect("has 1032 bytes, expected 1030", llmc({20240520, 1, 3}, tokens + "xx"));
  expect("tokens of its header", llmc({20240520, 1, -3}, tokens));
  expect("ends within its header, at byte 8 of 1024", bytes_of(Numbers{20240520, 1}));
  expect("has version 9", llmc({20240520, 9, 3}, tokens));
  expect("questions of an evaluation", llmc({20240522, 1, 3, 4}, tokens));
  expect("an odd number of bytes, 7", tokens + std::string(1, '\0'));
  expect("looks like text, expected tokens; encode it", "It is a truth universally acknowledged");
  expect("is no index of Megatron", tokens, "MMIDIDY");
  expect("index of version 2", tokens, megatron(8, {3}, 2).replace(9, 1, "\x02"));
  expect("tokens of type 6", tokens, megatron(6, {3}, 2));
  expect("do not fit the 1 sequences", tokens, megatron(8, {3}, 2) + "x");
  expect("do not fit the", tokens, megatron(8, {3}, 2).replace(25, 1, "\x7f"));
  expect("sequence 1 has 1 tokens and begins at byte 5", tokens, megatron(8, {2, 1}, 2).replace(34 + 8 + 8, 1, "\x05"));
  expect("sequence 0 has -3 tokens", tokens, megatron(8, {-3}, 2));
  expect("has 6 bytes, expected 4 for the 2 tokens", tokens, megatron(8, {2}, 2));
}

TEST(TokenDataset, CutsEachFileIntoSamplesWithTargets) {
  TemporaryFolder folder;
  write(folder / "t_0.bin", counted(9));       // two samples of 4
  write(folder / "t_1.bin", counted(3, 100));  // none
  write(folder / "t_2.bin", counted(6, 200));  // one
  const TokenDataset data({folder / "t_*.bin"}, 4);
  EXPECT_EQ(data.samples(), 3);
  EXPECT_EQ(data.tokens(), 18);
  Numbers tokens(4), targets(4);
  data.read(1, tokens, targets);
  EXPECT_EQ(tokens, counted(4, 4));
  EXPECT_EQ(targets, counted(4, 5));
  data.read(2, tokens, targets);
  EXPECT_EQ(tokens, counted(4, 200));
  EXPECT_EQ(targets, counted(4, 201));
}

TEST(TokenDataset, NamesWhatCannotBeTrainedOn) {
  TemporaryFolder folder;
  write(folder / "t.bin", counted(5));
  EXPECT_THAT(error_of([&] { TokenDataset({folder / "t.bin"}, 5); }),
              HasSubstr("t.bin' has 5 tokens, fewer than the 6 of one sample of 5"));
  EXPECT_THAT(error_of([&] { TokenDataset({folder / "u*.bin"}, 4); }), HasSubstr("found none"));
  EXPECT_THAT(error_of([&] { TokenDataset({folder / "u.bin"}, 4); }), HasSubstr("cannot open"));
  EXPECT_THAT(error_of([&] { TokenDataset({folder / "t.bin", folder / "*.bin"}, 4); }), HasSubstr("is named twice"));
  EXPECT_THAT(error_of([&] { TokenDataset({folder / "t.bin"}, 0); }), HasSubstr("at least 1 token, got 0"));
  const TokenDataset data({folder / "t.bin"}, 4);
  EXPECT_EQ(error_of([&] { data.check_tokenizer(7, 1000); }), "");
  EXPECT_EQ(error_of([&] { data.check_tokenizer(7, 1024); }), "");  // models pad their vocabularies
  EXPECT_THAT(error_of([&] { data.check_tokenizer(8, 1000); }), HasSubstr("with another tokenizer than the one given"));
  EXPECT_THAT(error_of([&] { data.check_tokenizer(7, 999); }),
              HasSubstr("with a vocabulary of 1000, expected at most 999"));
}

TEST(TokenDataset, FindsTokensBeyondTheVocabulary) {
  TemporaryFolder folder;
  Numbers many(3'000'000, 17);
  many[2'500'000] = 998;
  write(folder / "t_0.bin", counted(9));
  write(folder / "t_1.bin", many);
  const TokenDataset data({folder / "t_*.bin"}, 4);
  const TokenScan whole = data.scan(999);
  EXPECT_EQ(whole.highest, 998);
  EXPECT_EQ(whole.tokens, 3'000'009);
  EXPECT_EQ(data.scan(999, 0, 2).content_hash + data.scan(999, 1, 2).content_hash, whole.content_hash);
  const TokenDataset turned({folder / "t_1.bin", folder / "t_0.bin"}, 4);
  EXPECT_NE(turned.scan(999).content_hash, whole.content_hash) << "samples have other places";
  EXPECT_EQ(error_of([&] { data.scan(998); }),
            str("data: '", folder / "t_1.bin",
                "' has the token 998 at position 2500000, expected less than 998, the size of "
                "the vocabulary; encode the text with the tokenizer of this model"));
  write_file(folder / "w.bin", llmc({20240801, 7, 2}, bytes_of(Numbers{1, -1})));
  EXPECT_THAT(error_of([&] { TokenDataset({folder / "w.bin"}, 1).scan(int64_t(1) << 31); }),
              HasSubstr("the token 4294967295 at position 1"));
}

TEST(TokenDataset, NoticesDamageAndChange) {
  TemporaryFolder folder;
  write(folder / "t.bin", counted(50));
  std::string bytes = read_file(folder / "t.bin");
  bytes[1024 + 20] ^= 1;
  write_file(folder / "t.bin", bytes);
  const TokenDataset data({folder / "t.bin"}, 4);
  EXPECT_THAT(error_of([&] { data.scan(1000); }), HasSubstr("t.bin' is damaged"));
  Numbers tokens(4), targets(4);
  data.read(0, tokens, targets);
  std::filesystem::resize_file(folder / "t.bin", 1060);
  EXPECT_THAT(error_of([&] { data.read(0, tokens, targets); }),
              HasSubstr("t.bin' changed while it was read: it had 1124 bytes when it was opened and has 1060 now"));
}

// The tokens of a batch's samples, whatever part they are in.
std::vector<Numbers> samples_of(const TokenBatch& batch, size_t length) {
  std::vector<Numbers> samples;
  for (const TokenPart& part : batch.parts)
    for (size_t i = 0; i < size_t(part.count); ++i) {
      const auto begin = part.tokens.begin() + std::ptrdiff_t(i * length);
      samples.emplace_back(begin, begin + std::ptrdiff_t(length));
      EXPECT_EQ(part.targets[i * length], part.tokens[i * length] + 1);
      EXPECT_EQ(part.tokens[i * length], part.samples[i] * int64_t(length));
    }
  return samples;
}

TEST(TokenLoader, GivesEveryRankItsPartOfTheSameBatches) {
  TemporaryFolder folder;
  write(folder / "t.bin", counted(83));
  const TokenDataset data({folder / "t.bin"}, 4);  // 20 samples, 3 steps of 8, 8 and 4
  const TokenLoaderSettings whole{.batch = 8, .steps = 7, .seed = 3, .virtual_ranks = 4, .end_part = 4};
  TokenLoaderSettings first = whole, last = whole, later = whole;
  first.end_part = last.first_part = 1;
  later.first_step = 4;
  TokenLoader all(data, whole), one(data, first), other(data, last), resumed(data, later);
  std::vector<std::vector<Numbers>> epochs(3);
  for (int64_t step = 0; step < 7; ++step) {
    const TokenBatch& batch = all.next();
    EXPECT_EQ(batch.step, step);
    EXPECT_EQ(batch.global_count, step % 3 == 2 ? 4 : 8);
    auto expected = samples_of(batch, 4);
    auto parts = samples_of(one.next(), 4);
    const TokenBatch& rest = other.next();
    EXPECT_EQ(rest.data_hash, batch.data_hash);
    for (Numbers& sample : samples_of(rest, 4)) parts.push_back(std::move(sample));
    EXPECT_EQ(parts, expected);
    if (step >= 4) {
      EXPECT_EQ(samples_of(resumed.next(), 4), expected);
    }
    for (Numbers& sample : expected) epochs[size_t(step / 3)].push_back(std::move(sample));
  }
  EXPECT_NE(epochs[0], epochs[1]);
  std::ranges::sort(epochs[0]);
  std::ranges::sort(epochs[1]);
  EXPECT_EQ(epochs[0], epochs[1]);
  EXPECT_EQ(std::ranges::adjacent_find(epochs[0]), epochs[0].end());
}

TEST(TokenLoader, GoesInOrderWhenItDoesNotShuffle) {
  TemporaryFolder folder;
  write(folder / "t.bin", counted(83));
  const TokenDataset data({folder / "t.bin"}, 4);
  TokenLoader loader(data, {.batch = 3, .steps = 2, .shuffle = false});
  loader.next();
  EXPECT_EQ(samples_of(loader.next(), 4), std::vector<Numbers>({counted(4, 12), counted(4, 16), counted(4, 20)}));
}

TEST(TokenLoader, HandsErrorsOfItsThreadOn) {
  TemporaryFolder folder;
  write(folder / "t.bin", counted(83));
  const TokenDataset data({folder / "t.bin"}, 4);
  std::filesystem::resize_file(folder / "t.bin", 1100);
  TokenLoader loader(data, {.batch = 20, .steps = 1});
  EXPECT_THAT(error_of([&] { loader.next(); }), HasSubstr("changed while it was read"));
}

TEST(TokenLoader, CountsBatchesInTokens) {
  EXPECT_EQ(samples_of_batch(2048, 256), 8);
  EXPECT_EQ(error_of([] { samples_of_batch(2000, 256); }),
            "usage: a batch of 2000 tokens is no number of samples of 256; use 2048");
  EXPECT_THAT(error_of([] { samples_of_batch(1, 256); }), HasSubstr("use 256"));
}

}  // namespace
}  // namespace lockstep
