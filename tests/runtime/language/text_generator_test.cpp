// SPDX-License-Identifier: Apache-2.0
// Choosing tokens, and texts that go on beyond the context.
#include "runtime/language/text_generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "runtime/language/language_model.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr float kNever = -std::numeric_limits<float>::infinity();

std::set<int32_t> chosen(const std::vector<float>& logits, const Sampling& sampling) {
  std::set<int32_t> tokens;
  for (uint64_t draw = 0; draw < 500; ++draw) tokens.insert(choose_token(logits, sampling, draw));
  return tokens;
}

TEST(ChooseToken, TakesTheLikeliestAtTemperatureZero) {
  EXPECT_THAT(chosen({1, 3, 2, 3, kNever}, {.temperature = 0}), ElementsAre(1)) << "the first of equal ones";
  EXPECT_THAT(chosen({kNever, kNever, -50}, {}), ElementsAre(2));
}

TEST(ChooseToken, FollowsTheProbabilities) {
  const std::vector<float> logits{std::log(1.0f), std::log(2.0f), kNever, std::log(5.0f)};
  for (const double temperature : {1.0, 0.5}) {
    std::vector<int> counts(4);
    constexpr int kDraws = 20'000;
    for (uint64_t draw = 0; draw < kDraws; ++draw)
      ++counts[size_t(choose_token(logits, {.temperature = temperature, .seed = 9}, draw))];
    const double squares = temperature == 0.5 ? 2 : 1, sum = 1 + std::pow(2, squares) + std::pow(5, squares);
    EXPECT_EQ(counts[2], 0);
    // Five standard deviations.
    for (const auto& [token, weight] : {std::pair(0, 1.0), {1, std::pow(2, squares)}, {3, std::pow(5, squares)}}) {
      const double p = weight / sum;
      EXPECT_NEAR(counts[size_t(token)], kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p))) << token;
    }
  }
}

TEST(ChooseToken, LeavesOutTheUnlikely) {
  // Probabilities 0.4, 0.3, 0.2, 0.1.
  const std::vector<float> logits{std::log(0.2f), std::log(0.4f), std::log(0.1f), std::log(0.3f)};
  EXPECT_THAT(chosen(logits, {}), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(chosen(logits, {.top_k = 2}), ElementsAre(1, 3));
  EXPECT_THAT(chosen(logits, {.top_k = 99}), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(chosen(logits, {.top_p = 0.01}), ElementsAre(1));
  EXPECT_THAT(chosen(logits, {.top_p = 0.65}), ElementsAre(1, 3));
  EXPECT_THAT(chosen(logits, {.top_p = 0.75}), ElementsAre(0, 1, 3));
  EXPECT_THAT(chosen(logits, {.top_k = 2, .top_p = 0.5}), ElementsAre(1)) << "of the two that are left it has 4/7";
  EXPECT_THAT(chosen({2, 2, 2, 2}, {.top_p = 0.5}), ElementsAre(0, 1)) << "two reach it exactly";
}

TEST(ChooseToken, RepeatsItselfBySeed) {
  const std::vector<float> logits(50, 1);
  const auto draws = [&](uint64_t seed) {
    std::vector<int32_t> tokens;
    for (uint64_t draw = 0; draw < 20; ++draw) tokens.push_back(choose_token(logits, {.seed = seed}, draw));
    return tokens;
  };
  EXPECT_EQ(draws(1), draws(1));
  EXPECT_NE(draws(1), draws(2));
}

TEST(ChooseToken, RefusesWhatIsOutOfRange) {
  const auto choose = [](const Sampling& sampling) {
    return [sampling] { choose_token(std::vector<float>{1, 2}, sampling, 0); };
  };
  EXPECT_THAT(choose({.temperature = -1}), ThrowsMessage<Error>(HasSubstr("--temperature: expected 0")));
  EXPECT_THAT(choose({.temperature = NAN}), ThrowsMessage<Error>(HasSubstr("--temperature: expected 0")));
  EXPECT_THAT(choose({.top_k = -1}), ThrowsMessage<Error>(HasSubstr("--top-k")));
  EXPECT_THAT(choose({.top_p = 0}), ThrowsMessage<Error>(HasSubstr("--top-p")));
  EXPECT_THAT(choose({.top_p = 1.1}), ThrowsMessage<Error>(HasSubstr("--top-p")));
  EXPECT_THAT(
      [] {
        choose_token(std::vector<float>{1, NAN}, {}, 0);
      },
      ThrowsMessage<Error>(HasSubstr("the logit of token 1 is nan")));
  EXPECT_THAT([] { choose_token(std::vector<float>{kNever}, {}, 0); }, ThrowsMessage<Error>(HasSubstr("got none")));
}

class Generation : public testing::TestWithParam<const char*> {
 protected:
  Pool pool{Device{}};
  Stream stream = Stream::cpu();
  LanguageModel model =
      load_language_model(std::string(LOCKSTEP_SOURCE_DIR) + "/tests/runtime/language/" + GetParam(), pool);
  TextGenerator generator{model.model, model.settings, model.values, stream, pool};

  std::vector<float> logits() { return {generator.logits().begin(), generator.logits().end()}; }
};

TEST_P(Generation, ForgetsTheOlderHalfOfAFullContext) {
  std::vector<int32_t> text;
  for (int32_t i = 0; i < 80; ++i) text.push_back(i * 7 % 300);
  generator.begin(text);
  text.push_back(5);
  generator.add(5);
  const std::vector<float> after = logits();
  generator.begin(std::span(text).last(40));
  EXPECT_EQ(logits(), after);
  // There is room again, for a context's half, and nothing is forgotten before it is full.
  text.resize(80);
  generator.begin(std::span(text).first(79));
  generator.add(text[79]);
  const std::vector<float> added = logits();
  generator.begin(text);
  const std::vector<float> read = logits();
  for (size_t i = 0; i < read.size(); ++i) ASSERT_NEAR(added[i], read[i], 1e-4f) << i;
  for (int i = 0; i < 60; ++i) generator.add(i);
}

TEST_P(Generation, RefusesPromptsThatDoNotFit) {
  EXPECT_THAT([&] { generator.begin(std::vector<int32_t>(81)); },
              ThrowsMessage<Error>(HasSubstr("the prompt has 81 tokens, and the context of the model is 80")));
  EXPECT_THAT([&] { generator.begin({}); }, ThrowsMessage<Error>(HasSubstr("has no tokens")));
  EXPECT_THAT([&] { generator.begin(std::vector<int32_t>{300}); }, ThrowsMessage<Error>(HasSubstr("token 300")));
  EXPECT_THAT([&] { generator.add(1); }, ThrowsMessage<Error>(HasSubstr("a text that has begun")));
}

INSTANTIATE_TEST_SUITE_P(Families, Generation, testing::Values("gpt2", "llama"),
                         [](const auto& family) { return family.param; });

}  // namespace
}  // namespace lockstep
