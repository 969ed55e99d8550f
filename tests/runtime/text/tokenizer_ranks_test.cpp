// SPDX-License-Identifier: Apache-2.0
// Tokenizers of files of ranks, as tiktoken has them. tokenizers_test.py compares GPT-2's with tiktoken itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/text/tokenizer.h"
#include "tests/support/files.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string base64(const std::string& bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = i; j < i + 3; ++j) group = group << 8 | (j < bytes.size() ? uint8_t(bytes[j]) : 0u);
    for (int shift = 18; shift >= 0; shift -= 6) text += kDigits[group >> shift & 63];
  }
  for (size_t missing = (3 - bytes.size() % 3) % 3, i = 0; i < missing; ++i) text[text.size() - 1 - i] = '=';
  return text;
}

// Ranks of bytes, of words, and of pairs of bytes up to the number that r50k_base has.
std::string ranks_of_r50k(const std::vector<std::string>& words) {
  constexpr int kRanks = 50256;
  std::string text;
  int rank = 0;
  const auto add = [&](const std::string& bytes) { text += base64(bytes) + " " + std::to_string(rank++) + "\n"; };
  for (int b = 0; b < 256; ++b) add({char(b)});
  for (const std::string& word : words) add(word);
  for (int pair = 0; rank < kRanks; ++pair) add({char(128 + pair / 256 % 128), char(pair % 256), char(pair / 32768)});
  return text;
}

TEST(TokenizerRanks, MergeByTheRanksOfTiktoken) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/r50k_base.tiktoken";
  write_file(path, ranks_of_r50k({"th", "he", "the", "xyz", "hem"}));
  const Tokenizer tokenizer = Tokenizer::load(path);
  EXPECT_EQ(tokenizer.parts().rule, PieceRule::gpt2);
  EXPECT_EQ(tokenizer.end_of_text(), 50256);
  EXPECT_EQ(tokenizer.vocabulary(), 50257);
  constexpr int kTh = 256, kThe = 258, kXyz = 259, kHem = 260;
  EXPECT_THAT(tokenizer.encode("the"), ElementsAre(kThe)) << "t and he, or th and e";
  EXPECT_THAT(tokenizer.encode("them"), ElementsAre(kThe, 'm'));
  EXPECT_THAT(tokenizer.encode("hem"), ElementsAre(kHem)) << "made of he and m";
  EXPECT_THAT(tokenizer.encode("tth"), ElementsAre('t', kTh));
  EXPECT_THAT(tokenizer.encode("xyz"), ElementsAre(kXyz)) << "a piece that is a token, though no merge leads to it";
  EXPECT_THAT(tokenizer.encode("xyzz"), ElementsAre('x', 'y', 'z', 'z'));
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{kThe, kXyz}), "thexyz");
}

TEST(TokenizerRanks, SayWhatIsWrong) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/x.tiktoken", whole = ranks_of_r50k({});
  const auto expect_error = [&](const std::string& text, const char* what) {
    write_file(path, text);
    EXPECT_THAT([&] { Tokenizer::load(path); }, ::testing::ThrowsMessage<Error>(HasSubstr(what)));
  };
  expect_error(whole + "IQ== 50256\n", "x.tiktoken' has 50257 tokens, and does not say how text is cut into pieces");
  expect_error("IQ== 0\nIg==1\n", "x.tiktoken':2: expected a token in base64, a blank and a number from 0 to");
  expect_error("I!== 0\n", "x.tiktoken':1: expected a token in base64");
  expect_error("IQ= 0\n", "x.tiktoken':1: expected a token in base64");
  expect_error("IQ== -1\n", "x.tiktoken':1: expected a token in base64");
  expect_error("IQ== 9999999\n", "x.tiktoken':1: expected a token in base64");
  expect_error("IQ== 0\nIg== 0\n", "x.tiktoken':2: a second token has the number 0");
  expect_error(whole + whole.substr(0, whole.find('\n') + 1), "a second token has the number 0");
}

}  // namespace
}  // namespace lockstep
