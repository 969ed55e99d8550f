// SPDX-License-Identifier: Apache-2.0
// The bug museum, planner's wing: failures that others have had with scalar and first-replica state (docs/museum.md),
// each reproduced by a broken planner, noticed there, and absent from the real one. The other wing is
// museum_runtime_test.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/plan/check/plan_check.h"
#include "tests/runtime/plan/brute_force.h"
#include "tests/runtime/plan/mutant_tables.h"

namespace lockstep {
namespace {

struct Exhibit {
  int number;  // of docs/museum.md
  const char* mutant;
};

const std::vector<Exhibit>& exhibits() {
  static const std::vector<Exhibit> all = {
      {1, "the counter lives with the model's arrays, as in pt#74424"},
      {2, "a slot of a bf16 weight is rounded to bf16"},
      {6, "a slot of a bf16 weight is rounded to bf16"},
      {7, "the counter is a float, exact to 2^24"},
      {8, "the counter is bf16, which stalls at 256"},
      {9, "a moment is promoted to f64"},
      {10, "the counter has shape [1]"},
      {12, "a scalar is known by its name"},
      {14, "two scalars share their storage, as in pt#96313"},
      {15, "ranks with an empty shard have no scalars"},
      {16, "a bucket lacks the padding to equal parts"},
      {17, "ZeRO splits the learning rate"},
      {18, "scalars are outside gradient sync, trainable or not"},
      {19, "frozen integers require a gradient by default"},
      {20, "frozen integers require a gradient by default"},
      {21, "a slot is keyed to another parameter"},
      {22, "a weight has only one of two moments"},
      {23, "a layout names an axis of another mesh"},
      {24, "a model with nothing to train is planned"},
      {25, "statistics are broadcast with every micro-batch, as DDP's buffers"},
      {26, "statistics are broadcast with every micro-batch, as DDP's buffers"},
      {28, "there is no counter"},
      {30, "the learning rate is narrowed to f32"},
      {33, "a bucket is summed with every micro-batch instead of once"},
      {34, "there are two counters"},
      {36, "updated parts are never gathered, as in Megatron-LM#6920"},
      {37, "the loss scale is left to itself, as keras#20541 chose"},
      {38, "batches seen are averaged, a mean of i64 as in keras#20541"},
      {38, "moments are averaged, as by keras#20695's default"},
      {38, "an empty layout is taken for none, so rules reach scalars"},
  };
  return all;
}

class PlannerMuseum : public testing::TestWithParam<Exhibit> {};

TEST_P(PlannerMuseum, NoticesTheMutantAndFindsNothingInTheRealPlan) {
  const std::vector<Mutant> mutants = all_mutants();
  const auto mutant =
      std::find_if(mutants.begin(), mutants.end(), [](const Mutant& each) { return each.name == GetParam().mutant; });
  ASSERT_NE(mutant, mutants.end()) << GetParam().mutant;
  const std::string killer = killer_of(*mutant);
  EXPECT_NE(killer, "");
  EXPECT_THAT(killer, testing::HasSubstr(mutant->notices));

  const Subject subject(mutant->machine);
  const Plan real = make_plan(subject.input());
  EXPECT_NO_THROW(check_plan(real));
  EXPECT_EQ(brute_force(subject.input(), real), "");
}

INSTANTIATE_TEST_SUITE_P(Exhibits, PlannerMuseum, testing::ValuesIn(exhibits()),
                         [](const auto& info) { return str("case_", info.param.number, "_of_row_", info.index); });

}  // namespace
}  // namespace lockstep
