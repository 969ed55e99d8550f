// SPDX-License-Identifier: Apache-2.0
// What users get wrong about training, and whether the message names the variable, the op and the place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "collectives/host/thread_ranks.h"
#include "runtime/ops/ops.h"
#include "runtime/plan/planner.h"
#include "runtime/step/train_step.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string error_of(ErrorCode code, const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "no error";
}

// A model with one trained and one frozen weight of two elements.
class UserErrors : public testing::Test {
 protected:
  UserErrors() {
    weight = variables.parameter("layer/weight", {2}, Initializer::constant(2));
    frozen = variables.declare({"layer/frozen", {2}, DType::f32, Role::frozen_parameter, Initializer::constant(3), {}});
  }

  // Runs one step on one rank with this loss of [2].
  void train(const std::function<Tensor(Context&)>& loss) {
    const Plan plan = make_plan({.variables = variables, .optimizer = *sgd});
    const auto alone = make_serial_communicator();
    Stream stream = Stream::cpu();
    Pool pool({});
    VariableStore store(plan, variables, *sgd, *alone, pool, 1);
    const Forward forward = [&](Context& context, const Batch&) {
      const Tensor values = loss(context);
      return Results{values};
    };
    TrainStep step(*alone, store, *sgd, forward, stream, pool, 1);
    const std::array<int64_t, 2> ids{0, 1};
    const ConstView numbers{ids.data(), DType::i64, DeviceKind::cpu, Shape{2}};
    const BatchPart part{0, Batch({{"numbers", numbers}}, numbers)};
    (void)step.run({0, 2, {&part, 1}});
  }
  std::string complaint_about(const std::function<Tensor(Context&)>& loss) {
    return error_of(ErrorCode::tape, [&] { train(loss); });
  }

  VariableTable variables;
  Variable weight, frozen;
  std::unique_ptr<Optimizer> sgd = make_optimizer("sgd");
};

TEST_F(UserErrors, LossFromTheTrainedWeightIsNone) {
  EXPECT_NO_THROW(train([&](Context& c) { return multiply(c, c.value(weight), c.value(frozen)); }));
}

TEST_F(UserErrors, LossFromFrozenValuesNamesTheOpItsPlaceAndWhatCouldBeTrained) {
  const int line = __LINE__ + 1;
  const auto loss = [&](Context& c) { return relu(c, c.value(frozen)); };
  EXPECT_THAT(complaint_about(loss),
              AllOf(HasSubstr("such as layer/weight"), Not(HasSubstr("layer/frozen")),
                    HasSubstr(str("last op off the tape: relu at ", __FILE__, ":", line)),
                    HasSubstr("constants or frozen variables"), Not(HasSubstr("last op on the tape"))));
}

TEST_F(UserErrors, DetachedLossNamesTheLastOpThatWasOnTheTape) {
  const int line = __LINE__ + 1;
  const auto loss = [&](Context& c) { return gelu(c, c.value(weight)).reshaped({2}); };
  EXPECT_THAT(complaint_about(loss), AllOf(HasSubstr("such as layer/weight"),
                                           HasSubstr(str("last op on the tape: gelu at ", __FILE__, ":", line)),
                                           HasSubstr("left the tape"), Not(HasSubstr("no op was recorded"))));
}

TEST_F(UserErrors, OpResultThatLeftTheTapeNamesBothOps) {
  const auto loss = [&](Context& c) {
    const Tensor recorded = gelu(c, c.value(weight));
    const Tensor copy = Tensor::borrow(ConstView(recorded));  // values alone, as if read back by hand
    return relu(c, copy);
  };
  EXPECT_THAT(complaint_about(loss),
              AllOf(HasSubstr("last op off the tape: relu at "), HasSubstr("last op on the tape: gelu at "),
                    HasSubstr("user_errors_test.cpp:")));
}

TEST_F(UserErrors, LossWithoutAnyOpSaysThatNoneWasRecorded) {
  EXPECT_THAT(complaint_about([](Context& c) {
                Tensor zeros = c.empty({2});
                std::fill_n(data<float>(View(zeros)), 2, 0.0f);
                return zeros;
              }),
              AllOf(HasSubstr("such as layer/weight"), HasSubstr("no op was recorded")));
}

TEST_F(UserErrors, TrainableIntegerIsRefusedByNameAtItsDeclarationAndByTheTape) {
  for (const DType dtype : {DType::i32, DType::i64, DType::f64})
    EXPECT_THAT(error_of(ErrorCode::plan,
                         [&] {
                           variables.declare({"layer/count", {}, dtype, Role::parameter, {}, {}});
                         }),
                AllOf(HasSubstr("variable layer/count has role parameter and dtype " + std::string(to_string(dtype))),
                      HasSubstr("frozen_parameter")));
  Pool pool({});
  Tape tape;
  Tensor count(pool, DType::i64, {}), gradient(pool, DType::f32, {});
  EXPECT_THAT(error_of(ErrorCode::tape, [&] { tape.watch(count, 0, gradient, "layer/count"); }),
              AllOf(HasSubstr("variable layer/count has dtype i64"), HasSubstr("role other than parameter")));
}

TEST_F(UserErrors, FrozenIntegerThatIsUnfrozenIsRefusedByName) {
  variables.declare({"layer/index", {2}, DType::i32, Role::frozen_parameter, {}, {}});
  EXPECT_THAT(error_of(ErrorCode::plan, [&] { variables.unfreeze("layer/index"); }),
              AllOf(HasSubstr("layer/index"), HasSubstr("i32"), HasSubstr("only f32, bf16 and f16 can be trained")));
  EXPECT_EQ(variables.declarations().back().role, Role::frozen_parameter) << "nothing has changed";
}

TEST_F(UserErrors, OptimizerGivenOtherThanTheTrainedVariablesNamesThem) {
  const auto complaint = [&](std::vector<std::string> optimized) {
    return error_of(ErrorCode::plan,
                    [&] { make_plan({.variables = variables, .optimizer = *sgd, .optimized = std::move(optimized)}); });
  };
  EXPECT_THAT(complaint({"layer/wieght"}), AllOf(HasSubstr("optimizer sgd was given the unknown variable layer/wieght"),
                                                 HasSubstr("did you mean 'layer/weight'?")));
  EXPECT_THAT(complaint({"layer/weight", "layer/frozen"}),
              AllOf(HasSubstr("optimizer sgd was given layer/frozen of role frozen_parameter"), HasSubstr("unfreeze")));
  EXPECT_THAT(complaint({}), AllOf(HasSubstr("variable layer/weight is trainable"), HasSubstr("optimizer sgd"),
                                   HasSubstr("freeze it or give it")));
  EXPECT_EQ(complaint({"layer/weight"}), "no error");
}

TEST_F(UserErrors, NothingToTrainNamesWhatIsFrozen) {
  variables.freeze("layer/weight");
  EXPECT_THAT(error_of(ErrorCode::plan, [&] { make_plan({.variables = variables, .optimizer = *sgd}); }),
              AllOf(HasSubstr("nothing to train"), HasSubstr("frozen are layer/weight, layer/frozen"),
                    HasSubstr("unfreeze at least one")));
}

}  // namespace
}  // namespace lockstep
