// SPDX-License-Identifier: Apache-2.0
// A run that goes on from a checkpoint, on another number of ranks, ends on the bits of one that never stopped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "runtime/checkpoint/checkpoint_folder.h"
#include "tests/support/cases.h"
#include "tests/support/devices.h"
#include "tests/support/files.h"
#include "tests/support/toy_training.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using toy::Outcome;
using toy::Setting;

constexpr int64_t kSteps = 9, kStop = 5;

// Takes kStop steps as `before` and goes on as `after`, with other first values, which the checkpoint replaces.
Outcome gone_on(Setting before, Setting after) {
  const TemporaryFolder folder(folder_in_memory());
  before.steps = kStop;
  before.checkpoints = folder / "run";
  before.checkpoint_every = kStop;
  (void)toy::train(before);
  after.steps = kSteps;
  after.seed = 77;
  after.resume = folder / "run";
  return toy::train(after);
}

void expect_end_of(const Outcome& whole, const Outcome& rest, const std::string& what) {
  EXPECT_EQ(rest.first_step, kStop) << what;
  EXPECT_THAT(rest.complaints, testing::IsEmpty()) << what;
  ASSERT_EQ(rest.ledger.size(), size_t(kSteps - kStop)) << what;
  EXPECT_EQ(rest.ledger, std::vector(whole.ledger.begin() + kStop, whole.ledger.end())) << what;
  EXPECT_EQ(rest.values, whole.values) << what;
}

// All pairs of numbers of ranks.
void go_through_ranks(const std::vector<int>& ranks) {
  for (const std::string optimizer : {"adam", "muon", "adafactor"})
    for (const DType weights : {DType::f32, DType::bf16}) {
      const Setting setting{.steps = kSteps, .optimizer = optimizer, .weights = weights};
      const Outcome whole = toy::train(setting);
      for (const int before : ranks)
        for (const int after : ranks) {
          Setting first = setting, second = setting;
          first.ranks = before;
          second.ranks = after;
          expect_end_of(whole, gone_on(first, second),
                        str(optimizer, " ", to_string(weights), " ", before, " to ", after));
        }
    }
}

TEST(CheckpointTraining, GoesFromAnyNumberOfRanksToAnyOther) { go_through_ranks(cases({1, 2, 3, 4})); }
TEST(CheckpointTrainingOnUpToEightRanks, GoesFromAnyNumberToAnyOther) { go_through_ranks({1, 2, 3, 4, 5, 6, 7, 8}); }

TEST(CheckpointTraining, GoesOnWithEveryOptimizer) {
  for (const std::string_view name : optimizer_names()) {
    Setting setting{.steps = kSteps, .optimizer = std::string(name)}, three = setting;
    three.ranks = 3;
    expect_end_of(toy::train(setting), gone_on(three, setting), std::string(name));
  }
}

TEST(CheckpointTraining, GoesToOtherNodesThreadsAndBuckets) {
  const Setting setting{.steps = kSteps};
  const Outcome whole = toy::train(setting);
  using Nodes = std::vector<int>;
  for (const Nodes& nodes : {Nodes{0, 0, 1}, Nodes{0, 1, 0, 1}, Nodes{0, 1, 1, 2, 0}}) {
    Setting spread = setting;
    spread.ranks = int(nodes.size());
    spread.node_of = nodes;
    spread.threads = 2;
    spread.bucket_bytes = 1 << 20;
    expect_end_of(whole, gone_on(spread, setting), "from nodes");
    expect_end_of(whole, gone_on(setting, spread), "to nodes");
  }
}

TEST(CheckpointTraining, KeepsGroupsAveragesLossScaleAndAccumulation) {
  Setting setting{.plan = {.accumulation = 2},
                  .steps = kSteps,
                  .groups = {".*/bias => nadam(beta_1=0.5)", "first/bias => freeze"},
                  .average = MovingAverage{.momentum = 0.5, .overwrite_every = 4},
                  .scaling = LossScaling{.initial = 0x1p126, .growth_steps = 1},
                  .take_averages = true};
  for (const DType weights : {DType::f16, DType::bf16}) {
    setting.weights = weights;
    setting.plan.stochastic_rounding = weights == DType::bf16;
    Setting three = setting;
    three.ranks = 3;
    expect_end_of(toy::train(setting), gone_on(three, setting), std::string(to_string(weights)));
  }
}

TEST(CheckpointTraining, GoesFromCpusToGpusAndBack) {
  LOCKSTEP_NEEDS_GPU();
  const Setting cpu{.ranks = 2, .steps = kSteps};
  Setting gpu = cpu;
  gpu.ranks = 3;
  gpu.on_gpu = true;
  gpu.transport = DeviceTransport::staged;
  Setting one = gpu;
  one.ranks = 1;
  expect_end_of(toy::train(gpu), gone_on(gpu, one), "to another number of GPUs");
  if (!products_have_equal_bits()) return;
  const Outcome whole = toy::train(cpu);
  expect_end_of(whole, gone_on(cpu, gpu), "to GPUs");
  expect_end_of(whole, gone_on(gpu, cpu), "to CPUs");
}

// One rank's writing is slow, so that the steps that follow are taken meanwhile; what is written is what was there at
// its step, and nothing is called a checkpoint before all of it is there.
TEST(CheckpointTraining, HoldsTheStateOfItsStepHoweverLateItIsWritten) {
  const Setting setting{.steps = kSteps};
  Setting slow = setting;
  slow.ranks = 2;
  slow.before_operation = [first = std::make_shared<std::atomic<bool>>(true)](std::string_view, const std::string&) {
    if (first->exchange(false)) std::this_thread::sleep_for(std::chrono::milliseconds(200));
    return 0;
  };
  const TemporaryFolder folder(folder_in_memory());
  slow.checkpoints = folder / "run";
  slow.checkpoint_every = kStop;
  EXPECT_THAT(toy::train(slow).complaints, testing::IsEmpty());
  Setting after = setting;
  after.seed = 77;
  after.resume = folder / "run";
  expect_end_of(toy::train(setting), toy::train(after), "written late");
}

TEST(CheckpointTraining, KeepsTheNewestAndThoseOfTheRules) {
  const TemporaryFolder folder(folder_in_memory());
  Setting setting{.ranks = 2, .steps = 8, .checkpoints = folder / "run"};
  (void)toy::train(setting);
  EXPECT_THAT(list_checkpoints(folder / "run"), ElementsAre(8, 7, 6));
  EXPECT_EQ(std::filesystem::read_symlink(folder / "run/latest"), "step_00000008");
  setting.resume = setting.checkpoints;
  setting.steps = 10;
  (void)toy::train(setting);
  EXPECT_THAT(list_checkpoints(folder / "run"), ElementsAre(10, 9, 8));
  EXPECT_EQ(std::filesystem::read_symlink(folder / "run/latest"), "step_00000010");
}

}  // namespace
}  // namespace lockstep
