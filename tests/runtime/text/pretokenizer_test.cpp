// SPDX-License-Identifier: Apache-2.0
#include "runtime/text/pretokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "runtime/text/unicode.h"
#include "tests/runtime/text/text_support.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

std::vector<std::string> pieces(PieceRule rule, std::string_view text) {
  std::vector<std::string> all;
  while (!text.empty()) {
    const size_t bytes = first_piece(rule, text);
    if (bytes == 0 || bytes > text.size()) return {"a piece has no bytes, or too many"};
    all.emplace_back(text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
  return all;
}

TEST(Pretokenizer, CutsLikeGpt2) {
  const auto cut = [](std::string_view text) { return pieces(PieceRule::gpt2, text); };
  EXPECT_THAT(cut("Don't we'll stop  at 128?!\n\n  no"),
              ElementsAre("Don", "'t", " we", "'ll", " stop", " ", " at", " 128", "?!", "\n\n ", " no"));
  EXPECT_THAT(cut("DON'T"), ElementsAre("DON", "'", "T"));
  EXPECT_THAT(cut("x \n"), ElementsAre("x", " \n"));
  EXPECT_THAT(cut("a\u00a0b\u3000 c"), ElementsAre("a", "\u00a0", "b", "\u3000", " c"));
  EXPECT_THAT(cut("\xff\xfe!a\xc3"), ElementsAre("\xff\xfe!", "a", "\xc3"));
}

TEST(Pretokenizer, CutsEachDigitByItself) {
  const auto cut = [](std::string_view text) { return pieces(PieceRule::gpt2_digits, text); };
  EXPECT_THAT(cut("in 2024  7 a 1"), ElementsAre("in", " ", "2", "0", "2", "4", "  ", "7", " a", " ", "1"));
  EXPECT_THAT(cut("x1y "), ElementsAre("x", "1", "y", " "));
}

TEST(Pretokenizer, CutsLikeLlama3) {
  const auto cut = [](std::string_view text) { return pieces(PieceRule::llama3, text); };
  EXPECT_THAT(cut("DON'T 12345 \"so\" !!\n\nx\n  y  "),
              ElementsAre("DON", "'T", " ", "123", "45", " \"", "so", "\"", " !!\n\n", "x", "\n", " ", " y", "  "));
  EXPECT_THAT(cut("'ſa"), ElementsAre("'ſ", "a"));
  EXPECT_THAT(cut("\tx\r\ny"), ElementsAre("\tx", "\r\n", "y"));
}

TEST(Pretokenizer, MayBeCutWhereItIsSafe) {
  for (const PieceRule rule : kPieceRules)
    for (uint64_t seed = 0; seed < 40; ++seed) {
      const std::string text = mixed_text(seed, 200);
      const auto whole = pieces(rule, text);
      for (size_t from = 0; from < text.size(); from += 17) {
        const size_t cut = safe_cut(text, from);
        auto halves = pieces(rule, std::string_view(text).substr(0, cut));
        for (std::string& piece : pieces(rule, std::string_view(text).substr(cut))) halves.push_back(std::move(piece));
        ASSERT_THAT(halves, ElementsAreArray(whole)) << to_string(rule) << " cut at " << cut;
      }
    }
}

TEST(Unicode, ReadsStrictly) {
  const auto code = [](std::string_view text) { return read_character(text).code; };
  EXPECT_EQ(code("é"), 0xe9u);
  EXPECT_EQ(code("日"), 0x65e5u);
  EXPECT_EQ(code("👍"), 0x1f44du);
  EXPECT_EQ(code("\xf4\x8f\xbf\xbf"), 0x10ffffu);
  for (const char* broken : {"\x80", "\xc0\xaf", "\xc1\x81", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5",
                             "\xc3", "\xe2\x82", "\xe2\x28\xa1", "\xf0\x9f\x91"}) {
    EXPECT_EQ(code(broken), kInvalidCode) << broken;
    EXPECT_EQ(read_character(broken).bytes, 1);
  }
}

TEST(Unicode, HoldsIncompleteCharactersBack) {
  EXPECT_EQ(incomplete_bytes("a"), 0);
  EXPECT_EQ(incomplete_bytes("é"), 0);
  EXPECT_EQ(incomplete_bytes("a\xc3"), 1);
  EXPECT_EQ(incomplete_bytes("\xe2\x82"), 2);
  EXPECT_EQ(incomplete_bytes("\xf0\x9f\x91"), 3);
  // These can never become characters, so that nobody waits for them.
  EXPECT_EQ(incomplete_bytes("\xe0\x80"), 0);
  EXPECT_EQ(incomplete_bytes("\x80\x80\x80"), 0);
  EXPECT_EQ(incomplete_bytes("\xc1"), 0);
}

// tiktoken and tokenizers have the same numbers among the characters that Unicode 15 knows.
TEST(Unicode, ClassesCharactersAsOthersDo) {
  std::array<int, 4> counts{};
  for (uint32_t code = 0; code <= 0x10ffff; ++code) ++counts[size_t(class_of(code))];
  EXPECT_EQ(counts[size_t(CharacterClass::space)], 25);
  if (unicode_version() != "15.0.0") GTEST_SKIP() << "this library knows Unicode " << unicode_version();
  EXPECT_EQ(counts[size_t(CharacterClass::letter)], 136104);
  EXPECT_EQ(counts[size_t(CharacterClass::number)], 1831);
}

}  // namespace
}  // namespace lockstep
