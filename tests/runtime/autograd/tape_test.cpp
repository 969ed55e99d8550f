// SPDX-License-Identifier: Apache-2.0
#include "runtime/autograd/tape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/ops/ops.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class TapeTest : public testing::Test {
 protected:
  Tensor tensor(const std::vector<float>& values) {
    Tensor t(pool, DType::f32, {int64_t(values.size())});
    std::copy(values.begin(), values.end(), data<float>(View(t)));
    return t;
  }
  Tensor watched(const std::vector<float>& values, int32_t variable) {
    gradients[variable] = tensor(std::vector<float>(values.size(), -99));
    Tensor t = tensor(values);
    tape.watch(t, variable, gradients[variable]);
    return t;
  }
  std::vector<float> gradient(int32_t variable) {
    const ConstView view = gradients[variable];
    return {data<float>(view), data<float>(view) + view.size()};
  }
  void backward(const Tensor& output) {
    tape.backward(context, output, tensor(std::vector<float>(size_t(output.size()), 1)),
                  [&](int32_t variable) { ready.push_back(variable); });
  }

  Stream stream = Stream::cpu();
  Pool pool{{}};
  Tape tape;
  Context context{stream, pool, &tape};
  std::map<int32_t, Tensor> gradients;
  std::vector<int32_t> ready;
};

TEST_F(TapeTest, SumsTheContributionsOfEveryUse) {
  const Tensor x = watched({2, 3}, 0);
  const Tensor y = add(context, multiply(context, x, x), add(context, x, x));
  backward(y);
  EXPECT_THAT(gradient(0), ElementsAre(2 * 2 + 2, 2 * 3 + 2));
  EXPECT_THAT(ready, ElementsAre(0)) << "announced once, after its last contribution";
}

TEST_F(TapeTest, AddsToSharedMemoryWithoutTouchingTheOtherOwner) {
  // add passes one gradient on to two tensors; a later contribution to one of them must not reach the other.
  const Tensor a = watched({1, 1}, 0), b = watched({5, 7}, 1);
  const Tensor left = multiply(context, a, tensor({1, 1})), right = multiply(context, b, tensor({1, 1}));
  backward(add(context, add(context, left, right), left));
  EXPECT_THAT(gradient(0), ElementsAre(2, 2));
  EXPECT_THAT(gradient(1), ElementsAre(1, 1));
}

TEST_F(TapeTest, LetsNoOpAddToSharedMemory) {
  // Normalising adds to the gradient of its input where that is its own; here the other summand has the same memory.
  const Tensor a = watched({1, 5, 2}, 0), b = watched({3, 4, 7}, 1);
  const Tensor left = multiply(context, a, tensor({1, 1, 1})), right = multiply(context, b, tensor({1, 1, 1}));
  const Tensor normed = layer_norm(context, left, tensor({1, 2, 3}), tensor({0, 0, 0}), 1e-5f);
  backward(add(context, add(context, left, right), normed));
  EXPECT_THAT(gradient(1), ElementsAre(1, 1, 1));
  EXPECT_THAT(gradient(0), testing::Not(ElementsAre(1, 1, 1)));
}

TEST_F(TapeTest, ZeroesAndAnnouncesAVariableThatNoOpUsed) {
  const Tensor x = watched({1}, 0);
  watched({4, 4}, 1);
  backward(relu(context, x));
  EXPECT_THAT(gradient(1), ElementsAre(0, 0));
  EXPECT_THAT(ready, testing::UnorderedElementsAre(0, 1));
  EXPECT_THAT(tape.unused_variables(), ElementsAre(1));
}

TEST_F(TapeTest, ZeroesAVariableWhoseOpsDoNotLeadToTheLoss) {
  const Tensor x = watched({1}, 0), aside = watched({3}, 1);
  const Tensor unused = relu(context, aside);
  backward(relu(context, x));
  EXPECT_THAT(gradient(1), ElementsAre(0));
  EXPECT_THAT(tape.unused_variables(), ElementsAre(1));
}

TEST_F(TapeTest, NamesTheLastOpOffTheTapeWhenNothingCanBeDifferentiated) {
  watched({1, 2}, 0);
  const Tensor loss = relu(context, tensor({1, 2}));
  try {
    backward(loss);
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::tape);
    EXPECT_THAT(error.what(), HasSubstr("the loss reaches no trainable variable"));
    EXPECT_THAT(error.what(), HasSubstr("last op off the tape: relu at "));
    EXPECT_THAT(error.what(), HasSubstr("tape_test.cpp:"));
  }
}

TEST_F(TapeTest, TreatsATensorOfAnEarlierPassAsAConstant) {
  const Tensor old = relu(context, watched({1}, 0));
  tape.clear();
  const Tensor x = watched({2}, 0);
  backward(multiply(context, x, old));
  EXPECT_THAT(gradient(0), ElementsAre(1));
  tape.clear();
  EXPECT_THROW(backward(relu(context, old)), Error);
}

TEST_F(TapeTest, RefusesToWatchIntegers) {
  Tensor counter(pool, DType::i64, {});
  Tensor destination(pool, DType::f32, {});
  EXPECT_THROW(tape.watch(counter, 0, destination), Error);
}

TEST_F(TapeTest, RecordsNothingInEvaluation) {
  Context evaluation(stream, pool, nullptr);
  const Tensor x = watched({1}, 0);
  EXPECT_FALSE(tape.on_tape(relu(evaluation, x).position()));
  EXPECT_EQ(tape.nodes(), 0u);
}

TEST_F(TapeTest, GivesAllMemoryBackAfterThePass) {
  const int64_t before = pool.live_total();
  {
    const Tensor x = watched({1, 2, 3, 4}, 0);
    Tensor y = x;
    for (int i = 0; i < 50; ++i) y = tanh(context, add(context, y, x));
    backward(y);
  }
  tape.clear();
  gradients.clear();
  EXPECT_EQ(pool.live_total(), before);
}

TEST_F(TapeTest, DropsTheClosuresOfAPassThatIsNeverRunBackwards) {
  const int64_t before = pool.live_total();
  {
    const Tensor x = watched({1, 2, 3, 4}, 0);
    const Tensor y = multiply(context, x, relu(context, x));
  }
  tape.clear();
  gradients.clear();
  EXPECT_EQ(pool.live_total(), before);
}

}  // namespace
}  // namespace lockstep
