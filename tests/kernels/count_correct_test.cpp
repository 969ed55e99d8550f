// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/softmax.h"
#include "tests/kernels/arrays.h"

namespace lockstep {
namespace {

// Whether `label` is the answer of these scores.
bool is_answer(std::vector<float> scores, int32_t label) {
  const int64_t classes = int64_t(scores.size());
  float correct = -1;
  Stream stream = Stream::cpu();
  launch(stream, CountCorrect{.correct = {&correct, DType::f32, DeviceKind::cpu, Shape{1}},
                              .logits = {scores.data(), DType::f32, DeviceKind::cpu, Shape{1, classes}},
                              .labels = {&label, DType::i32, DeviceKind::cpu, Shape{1}}});
  EXPECT_TRUE(correct == 0 || correct == 1) << correct;
  return correct == 1;
}

TEST(CountCorrect, TakesTheFirstOfTheHighestScores) {
  for (int32_t label = 0; label < 4; ++label) {
    EXPECT_EQ(is_answer({1, 4, 3, 2}, label), label == 1) << label;
    EXPECT_EQ(is_answer({1, 3, 3, 2}, label), label == 1) << label;
    EXPECT_EQ(is_answer({2, 2, 2, 2}, label), label == 0) << label;
    EXPECT_EQ(is_answer({-INFINITY, -INFINITY, 1, INFINITY}, label), label == 3) << label;
  }
  EXPECT_TRUE(is_answer({7}, 0));
}

TEST(CountCorrect, KnowsNoAnswerWhereAScoreIsNoNumber) {
  for (size_t broken = 0; broken < 4; ++broken)
    for (int32_t label = 0; label < 4; ++label) {
      std::vector<float> scores = {1, 4, 3, 2};
      scores[broken] = NAN;
      EXPECT_FALSE(is_answer(scores, label)) << broken << " " << label;
    }
  for (int32_t label = 0; label < 3; ++label) EXPECT_FALSE(is_answer({NAN, NAN, NAN}, label)) << label;
  EXPECT_FALSE(is_answer({NAN}, 0));
}

}  // namespace
}  // namespace lockstep
