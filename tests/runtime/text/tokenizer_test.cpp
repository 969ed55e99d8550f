// SPDX-License-Identifier: Apache-2.0
// Expected tokens are those of Hugging Face's tokenizers 0.23, which has also learned and written the fixture's files.
#include "runtime/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/text/encoder.h"
#include "tests/runtime/text/text_support.h"
#include "tests/support/files.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Tokens = std::vector<int32_t>;

std::string fixture(const std::string& name) { return LOCKSTEP_SOURCE_DIR "/tests/runtime/text/fixture/" + name; }

class TokenizerOfRule : public ::testing::TestWithParam<PieceRule> {};

TEST_P(TokenizerOfRule, EncodesLikeOthers) {
  const auto expected = nlohmann::json::parse(read_file(fixture("expected.json")));
  const std::string rule(to_string(GetParam()));
  const Tokenizer tokenizer = Tokenizer::load(fixture(rule + ".json"));
  EXPECT_EQ(tokenizer.parts().rule, GetParam());
  EXPECT_EQ(tokenizer.end_of_text(), 0);
  for (size_t i = 0; i < expected["strings"].size(); ++i) {
    const std::string text = expected["strings"][i];
    const Tokens tokens = tokenizer.encode(text);
    EXPECT_EQ(tokens, expected[rule][i].get<Tokens>()) << "string " << i << ": " << text;
    EXPECT_EQ(tokenizer.decode(tokens), text);
  }
}

TEST_P(TokenizerOfRule, LearnsLikeOthers) {
  const auto theirs = nlohmann::json::parse(read_file(fixture(std::string(to_string(GetParam())) + ".json")));
  WordCounts counts(GetParam(), 1);
  counts.add(read_file(fixture("training_text.txt")));
  const int32_t vocabulary = int32_t(theirs["model"]["vocab"].size());
  const Tokenizer ours(train_bpe(counts.words(), {.vocabulary = vocabulary, .rule = GetParam()}));
  TemporaryFolder folder;
  ours.save(folder.path());
  EXPECT_EQ(nlohmann::json::parse(read_file(folder / "tokenizer.json"))["model"]["merges"], theirs["model"]["merges"]);
}

TEST_P(TokenizerOfRule, ComesBackFromItsFile) {
  const Tokenizer tokenizer = Tokenizer::load(fixture(std::string(to_string(GetParam())) + ".json"));
  TemporaryFolder folder;
  tokenizer.save(folder / "new/folder");
  const Tokenizer again = Tokenizer::load(folder / "new/folder");
  EXPECT_EQ(again.hash(), tokenizer.hash());
  EXPECT_EQ(again.vocabulary(), tokenizer.vocabulary());
  const std::string text = mixed_text(3, 500);
  EXPECT_EQ(again.encode(text), tokenizer.encode(text));
}

TEST_P(TokenizerOfRule, GivesTheSameTokensOnAnyNumberOfThreads) {
  const Tokenizer tokenizer = Tokenizer::load(fixture(std::string(to_string(GetParam())) + ".json"));
  const std::string long_text = mixed_text(5, 60000);
  const std::vector<std::string_view> texts = {long_text, "", "a", "x y"};
  Tokens expected;
  for (const std::string_view text : texts) {
    const Tokens tokens = tokenizer.encode(text);
    expected.insert(expected.end(), tokens.begin(), tokens.end());
    expected.push_back(0);
  }
  for (const int threads : {1, 2, 5}) {
    Encoder encoder(tokenizer, threads);
    for (int round = 0; round < 2; ++round) {
      Tokens tokens;
      encoder.encode(texts, SpecialTokens::as_text, 0, tokens);
      EXPECT_TRUE(tokens == expected) << threads << " threads, round " << round;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, TokenizerOfRule, ::testing::ValuesIn(kPieceRules), [](const auto& rule) {
  std::string name(to_string(rule.param));
  std::ranges::replace(name, '-', '_');
  return name;
});

// Long text is cut for threads, wherever its words are.
TEST(Tokenizer, CutsNoWordOfLongText) {
  const Tokenizer tokenizer = trained_on("x aaaa aaaa aaaa aaaa", 256 + 1 + 3);
  ASSERT_EQ(tokenizer.encode(" aaaa").size(), 1u);
  for (size_t shift = 0; shift < 5; ++shift) {
    std::string text(shift, 'x');
    while (text.size() < 200'000) text += " aaaa";
    const std::string_view view = text;
    Tokens tokens;
    Encoder(tokenizer, 1).encode({&view, 1}, SpecialTokens::as_text, std::nullopt, tokens);
    EXPECT_TRUE(tokens == tokenizer.encode(text)) << shift;
  }
}

// A cache of words must not take a word for one that ends with zeros, nor for none.
TEST(Tokenizer, EncodesZerosThatTextHas) {
  const Tokenizer tokenizer = trained_on("aa aa", 258);
  using namespace std::string_view_literals;
  const std::string_view text = "\0 a a\0 a\0\0 \0\0\0 \0 a aa\0"sv;
  Encoder encoder(tokenizer, 1);
  for (int round = 0; round < 2; ++round) {
    Tokens tokens;
    encoder.encode({&text, 1}, SpecialTokens::as_text, std::nullopt, tokens);
    EXPECT_EQ(tokenizer.decode(tokens), text) << round;
    EXPECT_EQ(tokens, tokenizer.encode(text)) << round;
  }
}

// All pairs at each step, as the definition says.
Tokens merged_by_definition(Tokens tokens, const std::vector<Merge>& merges) {
  for (;;) {
    size_t best = merges.size(), at = 0;
    for (size_t i = 0; i + 1 < tokens.size(); ++i)
      for (size_t rank = 0; rank < best; ++rank)
        if (merges[rank].left == tokens[i] && merges[rank].right == tokens[i + 1]) best = rank, at = i;
    if (best == merges.size()) return tokens;
    tokens[at] = merges[best].result;
    tokens.erase(tokens.begin() + std::ptrdiff_t(at) + 1);
  }
}

TEST(MergeTable, MergesShortAndLongPiecesByDefinition) {
  std::string letters;
  std::mt19937_64 random(1);
  for (int i = 0; i < 4000; ++i) letters += char("ab"[random() % 2]);
  const Tokenizer tokenizer = trained_on(letters + " " + letters.substr(0, 3000), 300);
  const std::vector<Merge>& merges = tokenizer.parts().merges;
  for (const size_t length : {1, 2, 3, 10, 47, 48, 49, 50, 120}) {
    Tokens bytes, tokens;
    for (size_t i = 0; i < length; ++i) bytes.push_back(letters[i] - '!');
    tokens = bytes;
    tokens.resize(MergeTable(merges).apply(tokens));
    EXPECT_EQ(tokens, merged_by_definition(bytes, merges)) << length << " letters";
  }
}

// All pairs of all words counted anew for each merge, as the definition says.
std::vector<std::pair<std::string, std::string>> learned_by_definition(
    std::vector<std::pair<std::vector<std::string>, int64_t>> words, size_t merges) {
  std::vector<std::pair<std::string, std::string>> learned;
  while (learned.size() < merges) {
    std::map<std::pair<std::string, std::string>, int64_t> counts;
    for (const auto& [tokens, count] : words)
      for (size_t i = 0; i + 1 < tokens.size(); ++i) counts[{tokens[i], tokens[i + 1]}] += count;
    int64_t most = 0;
    for (const auto& [pair, count] : counts) most = std::max(most, count);
    std::erase_if(counts, [&](const auto& each) { return each.second < most; });
    if (counts.size() != 1) return learned;  // which of equal ones is first is another test's
    const auto [left, right] = counts.begin()->first;
    learned.emplace_back(left, right);
    for (auto& [tokens, count] : words)
      for (size_t i = 0; i + 1 < tokens.size(); ++i)
        if (tokens[i] == left && tokens[i + 1] == right) {
          tokens[i] += right;
          tokens.erase(tokens.begin() + std::ptrdiff_t(i) + 1);
        }
  }
  return learned;
}

TEST(Tokenizer, LearnsByDefinition) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 100; ++round) {
    // Of two letters, so that the same bytes come about in several ways.
    std::map<std::string, int64_t> words;
    for (int i = 0; i < 60; ++i) {
      std::string word;
      for (size_t length = 2 + random() % 20; length > 0; --length) word += char("ab"[random() % 2]);
      words[word] = int64_t(1 + random() % 1'000'000);
    }
    std::vector<WordCounts::Word> counted;
    std::vector<std::pair<std::vector<std::string>, int64_t>> apart;
    for (const auto& [word, count] : words) {
      counted.push_back({word, count});
      auto& letters = apart.emplace_back(std::vector<std::string>(), count).first;
      for (const char letter : word) letters.emplace_back(1, letter);
    }
    const auto expected = learned_by_definition(std::move(apart), 100);
    ASSERT_GE(expected.size(), 10u) << round;
    // Two merges may give one token, so the vocabulary is that of the tokens.
    std::set<std::string> tokens;
    for (const auto& [left, right] : expected) tokens.insert(left + right);
    const TokenizerParts ours = train_bpe(counted, {.vocabulary = int32_t(256 + tokens.size()), .special = {}});
    std::vector<std::pair<std::string, std::string>> merges;
    for (const Merge& merge : ours.merges)
      merges.emplace_back(ours.tokens[size_t(merge.left)], ours.tokens[size_t(merge.right)]);
    ASSERT_LE(merges.size(), expected.size());
    EXPECT_TRUE(std::equal(merges.begin(), merges.end(), expected.begin())) << round;
  }
}

TEST(Tokenizer, LearnsTheSameOnAnyNumberOfThreads) {
  const std::string text = mixed_text(11, 20000);
  const auto learned = [&](int threads) {
    WordCounts counts(PieceRule::gpt2, threads);
    counts.add(text);
    counts.add(text.substr(0, 500));
    return Tokenizer(train_bpe(counts.words(), {.vocabulary = 300})).hash();
  };
  EXPECT_EQ(learned(1), learned(3));
}

TEST(Tokenizer, TakesTheLowerPairOfEquallyFrequentOnes) {
  // "ba" and "cd" are there twice each; b is the lower byte.
  const Tokenizer tokenizer = trained_on("ba cd ba cd", 256 + 1 + 1);
  EXPECT_EQ(tokenizer.bytes_of(256), "ba");
}

TEST(Tokenizer, SaysHowManyTokensTextIsGoodFor) {
  EXPECT_EQ(
      error_of([] { trained_on("aa aa", 4096); }),
      "data: the text has pairs that occur twice for a vocabulary of 258 only, not 4096; give more text, or a smaller "
      "vocabulary");
  EXPECT_THAT(error_of([] { trained_on("aa aa", 256); }), StartsWith("usage: expected a vocabulary of at least 257"));
}

TEST(Tokenizer, RefusesSpecialTokensThatTextHas) {
  const auto error = [](std::vector<std::string> special) {
    return error_of([&] { train_bpe({{"aa", 5}}, {.vocabulary = 260, .special = std::move(special)}); });
  };
  EXPECT_THAT(error({"aa", "b", "c"}), HasSubstr("'aa' is spelled like a token of the text"));
  EXPECT_THAT(error({"<a>", "<a>", "<b>"}), HasSubstr("got an empty, repeated or broken one as number 1"));
  EXPECT_THAT(error({"<a>", "\xff", "<b>"}), HasSubstr("broken one as number 2"));
  EXPECT_EQ(error({"<a>", "<b>", "<c>"}), "");
}

TEST(Tokenizer, TakesSpecialTokensForTextUnlessAsked) {
  const Tokenizer tokenizer = trained_on("aa aa", 258);
  const std::string text = "a<|endoftext|>a";
  EXPECT_EQ(tokenizer.encode(text).size(), text.size());
  EXPECT_THAT(tokenizer.encode(text, SpecialTokens::recognised), ElementsAre('a' - '!', 257, 'a' - '!'));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, SpecialTokens::recognised)), text);
}

TEST(Tokenizer, DecodesWholeCharactersAsTokensCome) {
  const Tokenizer tokenizer = trained_on("aa aa", 258);
  StreamDecoder decoder(tokenizer);
  std::vector<std::string> shown;
  for (const int32_t token : tokenizer.encode("aé👍\xff!\xe2\x82")) shown.push_back(decoder.next(token));
  EXPECT_THAT(shown, ElementsAre("a", "", "é", "", "", "", "👍", "\xff", "!", "", ""));
  EXPECT_EQ(decoder.rest(), "\xe2\x82");
  EXPECT_EQ(decoder.rest(), "");
  EXPECT_THAT(error_of([&] { decoder.next(258); }),
              HasSubstr("has numbers from 0 to 257, got 258; use the tokenizer that the tokens come from"));
}

// GPT-2's two files, from the tokenizer.json of the fixture.
void write_pair(const TemporaryFolder& folder, const std::string& vocabulary, const std::string& merges) {
  const auto json = nlohmann::json::parse(read_file(fixture("gpt2.json")));
  std::string lines = "#version: 0.2\n";
  for (const auto& merge : json["model"]["merges"])
    lines += merge[0].get<std::string>() + " " + merge[1].get<std::string>() + "\n";
  write_file(folder / vocabulary, json["model"]["vocab"].dump());
  write_file(folder / merges, lines);
}

TEST(TokenizerFiles, AreReadInEachOfThreeForms) {
  const Tokenizer expected = Tokenizer::load(fixture("gpt2.json"));
  for (const auto& [vocabulary, merges] : {std::pair{"vocab.json", "merges.txt"}, {"encoder.json", "vocab.bpe"}}) {
    TemporaryFolder folder;
    write_pair(folder, vocabulary, merges);
    for (const std::string& path : {folder.path(), folder / vocabulary, folder / merges}) {
      const Tokenizer tokenizer = Tokenizer::load(path);
      EXPECT_EQ(tokenizer.hash(), expected.hash()) << path;
      EXPECT_EQ(tokenizer.end_of_text(), 0);
    }
  }
}

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

TEST(TokenizerFiles, MergeByTheRanksOfTiktoken) {
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

TEST(TokenizerFiles, SayWhatIsWrongWithRanks) {
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

TEST(TokenizerFiles, TakeTheEndOfTextFromTheConfiguration) {
  TemporaryFolder folder;
  auto json = nlohmann::json::parse(read_file(fixture("gpt2.json")));
  json["added_tokens"].push_back({{"id", 326}, {"content", "<|im end|>"}, {"special", true}});
  write_file(folder / "tokenizer.json", json.dump());
  EXPECT_EQ(Tokenizer::load(folder.path()).end_of_text(), 0);
  write_file(folder / "tokenizer_config.json", R"({"eos_token": {"content": "<|im end|>"}})");
  EXPECT_EQ(Tokenizer::load(folder.path()).end_of_text(), 326);
  write_file(folder / "tokenizer_config.json", R"({"eos_token": "</s>"})");
  EXPECT_THAT(error_of([&] { Tokenizer::load(folder.path()); }),
              HasSubstr("the end-of-text token \"</s>\" is none of its added tokens"));
}

// The message for the fixture's file after `change`.
template <class Change>
std::string error_of_changed(Change&& change) {
  TemporaryFolder folder;
  auto json = nlohmann::json::parse(read_file(fixture("gpt2.json")));
  change(json);
  write_file(folder / "tokenizer.json", json.dump());
  const std::string error = error_of([&] { Tokenizer::load(folder.path()); });
  EXPECT_THAT(error, AnyOf(HasSubstr("data: '" + folder / "tokenizer.json'"), ::testing::IsEmpty()));
  return error;
}

TEST(TokenizerFiles, HaveAnySpecialTokens) {
  Tokenizer tokenizer(train_bpe({{"aa", 5}}, {.vocabulary = 259, .special = {"tab\t \"\\ é", {"\0\x7f", 2}}}));
  TemporaryFolder folder;
  tokenizer.save(folder.path());
  EXPECT_EQ(Tokenizer::load(folder.path()).hash(), tokenizer.hash());
}

TEST(TokenizerFiles, SayWhatIsWrong) {
  using Json = nlohmann::json;
  const auto expect = [](const char* message, auto change) {
    EXPECT_THAT(error_of_changed(change), HasSubstr(message));
  };
  EXPECT_EQ(error_of_changed([](Json&) {}), "");
  expect(".model.type: expected BPE, got \"WordPiece\"", [](Json& j) { j["model"]["type"] = "WordPiece"; });
  expect(".normalizer: expected none, got an object; text is encoded as it is", [](Json& j) {
    j["normalizer"] = {{"type", "NFC"}};
  });
  expect(".model.byte_fallback: expected none, got true", [](Json& j) { j["model"]["byte_fallback"] = true; });
  expect(".pre_tokenizer: expected ByteLevel", [](Json& j) { j["pre_tokenizer"]["add_prefix_space"] = true; });
  expect(".pre_tokenizer: expected ByteLevel", [](Json& j) { j["pre_tokenizer"] = {{"type", "Whitespace"}}; });
  expect("has no 'vocab'", [](Json& j) { j["model"].erase("vocab"); });
  expect("for the token \"A\", got -1", [](Json& j) { j["model"]["vocab"]["A"] = -1; });
  expect("for the token \"A\", got 16000000", [](Json& j) { j["model"]["vocab"]["A"] = 16000000; });
  expect("have the same number 33", [](Json& j) { j["model"]["vocab"]["B"] = 33; });
  expect("is not spelled in the symbols of bytes", [](Json& j) { j["model"]["vocab"]["日"] = 326; });
  expect(".model.merges[0]: expected two tokens", [](Json& j) { j["model"]["merges"][0] = "a"; });
  expect(".model.merges[2]: the vocabulary has no token \"zz\"", [](Json& j) { j["model"]["merges"][2] = "zz a"; });
  expect("the token \"A\" has two numbers, 33 and 326", [](Json& j) {
    j["added_tokens"][0].update({{"id", 326}, {"content", "A"}});
  });
  expect(".added_tokens[0].lstrip: expected none, got true", [](Json& j) { j["added_tokens"][0]["lstrip"] = true; });
  expect(".added_tokens[0]: the number 5 is that of", [](Json& j) { j["added_tokens"][0]["id"] = 5; });
  TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { Tokenizer::load(folder.path()); }),
              HasSubstr("holds no tokenizer: expected tokenizer.json"));
  write_file(folder / "tokenizer.json", "{\"model\"");
  EXPECT_THAT(error_of([&] { Tokenizer::load(folder.path()); }), HasSubstr("is no JSON"));
  write_pair(folder, "vocab.json", "merges.txt");
  write_file(folder / "merges.txt", "#version: 0.2\nth e e\n");
  EXPECT_THAT(
      error_of([&] { Tokenizer::load(folder / "merges.txt"); }),
      AllOf(HasSubstr("merges.txt':2"), HasSubstr("expected two tokens with a blank between them, got \"th e e\"")));
}

TEST(TokenizerFiles, MayLackBytesUntilTextHasThem) {
  TemporaryFolder folder;
  auto json = nlohmann::json::parse(read_file(fixture("gpt2.json")));
  json["model"]["vocab"].erase("~");
  write_file(folder / "tokenizer.json", json.dump());
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("ab")), "ab");
  EXPECT_THAT(error_of([&] { tokenizer.encode("a~"); }), HasSubstr("has no token for the byte \"~\""));
}

}  // namespace
}  // namespace lockstep
