// SPDX-License-Identifier: Apache-2.0
// What may change between two lives of a run, and what options about checkpoints and faults mean.
#include "tools/checkpoint/run_changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/files.h"
#include "tools/checkpoint/checkpoint_options.h"
#include "tools/checkpoint/fault_injection.h"
#include "tools/training/train_options.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

TEST(RunChanges, AreNamedWithWhatTheyMean) {
  const RunConfiguration before{{"batch", "128"}, {"model", "mlp"}, {"seed", "1"}};
  EXPECT_FALSE(check_changes("c", before, before, {}));
  RunConfiguration now = before;
  now["batch"] = "64";
  now["clipnorm"] = "1";
  const auto refusal = [&](const std::vector<std::string>& allowed) {
    return error_of([&] { EXPECT_TRUE(check_changes("c", before, now, allowed)); });
  };
  EXPECT_THAT(refusal({}), AllOf(StartsWith("usage: 'c' is of a run with other options: batch was '128' and is '64' ("),
                                 HasSubstr("clipnorm was not given and is '1' ("),
                                 HasSubstr("--allow-change batch --allow-change clipnorm")));
  EXPECT_THAT(refusal({"batch"}), AllOf(Not(HasSubstr("batch")), HasSubstr("--allow-change clipnorm")));
  EXPECT_EQ(refusal({"batch", "clipnorm"}), "");
  now.erase("model");
  EXPECT_THAT(refusal({"batch", "clipnorm"}), AllOf(HasSubstr("model was 'mlp' and is not given"),
                                                    HasSubstr("begin a new one"), Not(HasSubstr("--allow-change"))));
}

// Everything that ranks compare can be told apart by a name that --allow-change knows, or is of the variables.
TEST(RunChanges, KnowEveryFactOfARun) {
  TrainOptions options;
  options.plan.accumulation = 2;
  options.plan.reduce_dtype = DType::bf16;
  options.model.weights = DType::f16;
  options.model.freeze = {"b"};
  options.data.classes = 3;
  options.clip = {1, 2, 3};
  VariableTable variables;
  variables.parameter("w", {8, 8}, Initializer::constant(0));
  variables.parameter("b", {8}, Initializer::constant(0));
  const OptimizerSet optimizer = choose_optimizers(options.model, variables);
  const Schedule schedule = make_schedule("constant", optimizer.learning_rate());
  const std::vector<std::string_view> of_variables{"model", "precision", "classes", "freeze"};
  size_t facts = 0;
  for (const RunFact& fact : run_facts(options, optimizer, schedule, options.plan)) {
    const auto known = changes_that_can_be_allowed();
    EXPECT_NE(std::ranges::count(known, fact.name) + std::ranges::count(of_variables, fact.name), 0) << fact.name;
    EXPECT_THAT(run_description(options, optimizer, schedule, options.plan), HasSubstr(fact.name + "=" + fact.value));
    ++facts;
  }
  EXPECT_EQ(facts, 16U);
}

TEST(RunChanges, GoOnAtTheNextSample) {
  const DataPosition middle{.epoch = 2, .step_in_epoch = 5, .batch = 64, .samples = 600};
  EXPECT_EQ(batch_to_go_on_with(middle, 64, 600), 2 * 10 + 5);
  EXPECT_EQ(batch_to_go_on_with(middle, 32, 600), 2 * 19 + 10);
  EXPECT_EQ(batch_to_go_on_with(middle, 320, 600), 2 * 2 + 1);
  EXPECT_THAT(error_of([&] { batch_to_go_on_with(middle, 48, 600); }), HasSubstr("320 samples into an epoch"));
  EXPECT_EQ(batch_to_go_on_with({.epoch = 2, .batch = 64, .samples = 600}, 48, 600), 2 * 13);
  // Other samples: the next epoch of them.
  EXPECT_EQ(batch_to_go_on_with(middle, 64, 1000), 3 * 16);
}

TEST(Times, AreReadInHoursMinutesAndSeconds) {
  for (const auto& [text, seconds] : {std::pair("3h50m", 13800.0),
                                      {"90s", 90.0},
                                      {"1h2m3s", 3723.0},
                                      {"600", 600.0},
                                      {"0.5h", 1800.0},
                                      {"1m30", 90.0}})
    EXPECT_EQ(seconds_of("--exit-after", text), seconds) << text;
  for (const char* text : {"", "0", "3x", "h", "-5s", "5m3h", "5s5s", "1e300h", "nan", "inf", "3h 50m"})
    EXPECT_THAT(error_of([&] { seconds_of("--exit-after", text); }), HasSubstr("--exit-after: expected a time"))
        << text;
}

TEST(Faults, AreReadAsTheyAreMeant) {
  const Fault fault = parse_fault("kill@step=7,rank=1");
  EXPECT_EQ(fault.kind, FaultKind::kill);
  EXPECT_EQ(fault.step, 7);
  EXPECT_EQ(fault.rank, 1);
  EXPECT_EQ(parse_fault("enospc@operation=12").operation, 12);
  EXPECT_EQ(parse_fault("slow@operation=3,ms=50").milliseconds, 50);
  const Fault flip = parse_fault("flip@step=7,rank=1,variable=a/weight,element=3,bit=30");
  EXPECT_EQ(flip.kind, FaultKind::flip);
  EXPECT_EQ(flip.variable, "a/weight");
  EXPECT_EQ(flip.element, 3);
  EXPECT_EQ(flip.bit, 30);
  EXPECT_FALSE(parse_fault("flip@step=7").bit.has_value());
  EXPECT_EQ(parse_fault("nan@step=7,variable=a/weight,element=2").element, 2);
  for (const char* text : {"", "kill", "kill@", "kill@step", "kill@step=", "kill@step=-1", "kill@step=7,",
                           "kill@rank=1", "kill@step=7,operation=3", "enospc@step=7", "slow@step=7", "kill@step=7,ms=3",
                           "mismatch@operation=1", "burn@step=7", "flip@operation=1", "flip@step=7,variable=",
                           "nan@step=7,bit=3", "kill@step=7,variable=a", "kill@step=7,element=3"})
    EXPECT_THAT(error_of([&] { parse_fault(text); }), AllOf(StartsWith("usage: --inject: expected"), HasSubstr("got")))
        << text;
}

TEST(Faults, HitTheOperationTheyAreMeantFor) {
  const FaultInjection mine({parse_fault("eio@operation=2"), parse_fault("enospc@operation=3,rank=1")}, 0);
  const FileOperations::Before before = mine.before_operation();
  std::vector<int> errors;
  for (int i = 0; i < 4; ++i) errors.push_back(before("write", "f"));
  EXPECT_THAT(errors, testing::ElementsAre(0, EIO, 0, 0));
  EXPECT_FALSE(bool(FaultInjection({parse_fault("kill@step=1")}, 0).before_operation()));
  // Of a run that is started again and again: the first time, unless another one is named.
  const auto hits = [](const char* text, int life) {
    return bool(FaultInjection({parse_fault(text)}, 0, life).before_operation());
  };
  EXPECT_TRUE(hits("eio@operation=1", 1));
  EXPECT_FALSE(hits("eio@operation=1", 2));
  EXPECT_TRUE(hits("eio@operation=1,life=2", 2));
  EXPECT_TRUE(hits("eio@operation=1,life=0", 3));
}

}  // namespace
}  // namespace lockstep
