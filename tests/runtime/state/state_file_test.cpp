// SPDX-License-Identifier: Apache-2.0
// A run that goes on from a file ends on the bits of one that never stopped; and variables that rest keep their state.
#include "runtime/state/state_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/files/safetensors.h"
#include "tests/support/devices.h"
#include "tests/support/files.h"
#include "tests/support/toy_training.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;
using toy::Outcome;
using toy::Setting;
using toy::train;

// Stops after `steps` of twelve on `before`'s ranks, goes on with `after`'s.
Outcome interrupted(const Setting& before, const Setting& after, int64_t steps) {
  const TemporaryFolder folder;
  Setting first = before, second = after;
  first.steps = second.first_step = steps;
  first.save = second.restore = folder / "state";
  second.steps = 12;
  second.seed = 77;  // other first values, which the file replaces
  (void)train(first);
  return train(second);
}

void expect_the_end_of(const Outcome& whole, const Outcome& rest, const std::string& what) {
  ASSERT_FALSE(rest.ledger.empty()) << what;
  EXPECT_EQ(rest.ledger, std::vector(whole.ledger.end() - int64_t(rest.ledger.size()), whole.ledger.end())) << what;
  EXPECT_EQ(rest.values, whole.values) << what;
}

TEST(StateFile, LetsEveryOptimizerGoOnWithTheSameBits) {
  for (const std::string_view name : optimizer_names()) {
    const Setting setting{.steps = 12, .optimizer = std::string(name)};
    Setting three = setting;
    three.ranks = 3;
    expect_the_end_of(train(setting), interrupted(three, setting, 5), std::string(name));
    expect_the_end_of(train(setting), interrupted(setting, three, 7), std::string(name));
  }
}

TEST(StateFile, HoldsGroupsAveragesAndLossScaling) {
  const Setting setting{.steps = 12,
                        .groups = {".*/bias => nadam(beta_1=0.5)"},
                        .average = MovingAverage{.momentum = 0.5, .overwrite_every = 4},
                        .scaling = LossScaling{.initial = 0x1p126, .growth_steps = 1}};
  Setting three = setting;
  three.ranks = 3;
  three.node_of = {0, 0, 1};
  expect_the_end_of(train(setting), interrupted(setting, three, 5), "three ranks on two nodes");
}

TEST(StateFile, GoesOnOnAGpuFromCpusAndBack) {
  LOCKSTEP_NEEDS_GPU();
  const Setting cpu{.ranks = 2, .steps = 12};
  Setting gpu = cpu;
  gpu.on_gpu = true;
  gpu.transport = DeviceTransport::staged;
  expect_the_end_of(train(gpu), interrupted(gpu, gpu, 5), "from GPUs to GPUs");
  if (!products_have_equal_bits()) return;
  expect_the_end_of(train(cpu), interrupted(cpu, gpu, 5), "to GPUs");
  expect_the_end_of(train(cpu), interrupted(gpu, cpu, 5), "to CPUs");
}

TEST(StateFile, RefusesTheStateOfAnotherRun) {
  const TemporaryFolder folder;
  const std::string file = folder / "state";
  (void)train({.steps = 1, .save = file});
  const auto complaint = [&](Setting setting) {
    setting.ranks = 2;
    setting.steps = 2;
    setting.restore = file;
    return error_of([&] { train(setting); });
  };
  EXPECT_EQ(complaint({}), "");
  EXPECT_THAT(complaint({.optimizer = "nadam"}),
              AllOf(StartsWith("data: "), HasSubstr("first/weight/nadam/momentum is missing")));
  EXPECT_THAT(complaint({.optimizer = "sgd"}), HasSubstr("first/bias/adam/momentum is no variable of this run"));
  EXPECT_THAT(complaint({.average = MovingAverage{}}), HasSubstr("first/weight/adam/average is missing"));

  const std::string bytes = read_file(file);
  // As many bytes, of another dtype.
  std::string integers = bytes;
  integers.replace(integers.find("\"F32\"", integers.find("\"first/weight\":")), 5, "\"I32\"");
  write_file(file, integers);
  EXPECT_THAT(complaint({}),
              AllOf(StartsWith("data: "), HasSubstr("first/weight is i32 [12, 16], expected f32 [12, 16]")));
  write_file(file, std::string_view(bytes).substr(0, bytes.size() - 8));
  EXPECT_THAT(complaint({}), StartsWith("data: "));
  std::filesystem::remove(file);
  EXPECT_THAT(complaint({}), AllOf(StartsWith("file: "), HasSubstr(file)));
}

TEST(StateFile, NamesEveryVariable) {
  const TemporaryFolder folder;
  const std::string file = folder / "state";
  (void)train({.steps = 3, .optimizer = "nadam", .save = file});
  const SafetensorsFile state(file);
  int64_t iteration = 0;
  state.read("nadam/iteration", std::as_writable_bytes(std::span(&iteration, 1)));
  EXPECT_EQ(iteration, 3);
  EXPECT_EQ(state.metadata().at("step"), "3");
  for (const char* name : {"first/weight", "first/weight/nadam/momentum", "nadam/u_product", "nadam/learning_rate"})
    EXPECT_NE(state.find(name), nullptr) << name;
}

TEST(FrozenForAWhile, KeepsWeightsAndSlots) {
  for (const bool on_gpu : {false, true}) {
    if (on_gpu && !has_gpu()) continue;
    Setting setting{.ranks = 2, .steps = 6};
    setting.on_gpu = on_gpu;
    setting.transport = DeviceTransport::staged;
    Setting before = setting, frozen = setting, after = setting;
    before.steps = 3;
    frozen.freeze = after.freeze = {"first/weight"};
    frozen.freeze_at = after.freeze_at = 3;
    after.unfreeze_at = 5;
    const auto values = train(before).values, resting = train(frozen).values, resumed = train(after).values;
    for (const char* path : {"first/weight", "first/weight/adam/momentum", "first/weight/adam/velocity"}) {
      EXPECT_EQ(resting.at(path), values.at(path)) << path;
      EXPECT_NE(resumed.at(path), values.at(path)) << path;
    }
    EXPECT_NE(resting.at("last/weight"), values.at("last/weight"));
    EXPECT_NE(resting.at("first/bias"), values.at("first/bias"));
    // Its momentum went on from where it was: one step of Adam's average.
    const auto& m = resumed.at("first/weight/adam/momentum");
    EXPECT_NE(m, train(setting).values.at("first/weight/adam/momentum"));
  }
}

TEST(FrozenForAWhile, KeepsWeightsAndAveragesWhereAveragesOverwrite) {
  for (const std::string optimizer : {"sgd", "muon"})
    for (const bool on_gpu : {false, true}) {
      if (on_gpu && !has_gpu()) continue;
      Setting frozen{.ranks = 2,
                     .steps = 7,
                     .optimizer = optimizer,
                     .average = MovingAverage{.momentum = 0.5, .overwrite_every = 3},
                     .freeze = {"first/weight"}};
      frozen.on_gpu = on_gpu;
      frozen.transport = DeviceTransport::staged;
      frozen.freeze_at = 2;
      Setting before = frozen;
      before.steps = 2;
      const auto values = train(before).values, resting = train(frozen).values;
      for (const std::string path : {"first/weight", "last/weight"})
        for (const std::string& kept : {path, path + "/" + optimizer + "/average"})
          EXPECT_EQ(resting.at(kept) == values.at(kept), path == "first/weight") << kept << ", GPU " << on_gpu;
    }
}

TEST(FrozenForAWhile, TakesTheSameBitsOnAnyNumberOfRanksAndDevices) {
  Setting setting{
      .steps = 8, .groups = {".*/bias => sgd(learning_rate=0.05)"}, .freeze = {"first/weight", "last/bias"}};
  setting.freeze_at = 2;
  setting.unfreeze_at = 5;
  const Outcome one = train(setting);
  for (const int ranks : {2, 3, 5}) {
    Setting several = setting;
    several.ranks = ranks;
    EXPECT_EQ(train(several).ledger, one.ledger) << ranks;
  }
  if (!has_gpu() || !products_have_equal_bits()) return;
  // A recorded step with one group has not looked at groups before a variable rests.
  Setting without_groups = setting;
  without_groups.groups.clear();
  for (const Setting& each : {setting, without_groups})
    for (const bool graph : {false, true}) {
      Setting gpu = each;
      gpu.on_gpu = true;
      gpu.graph = graph;
      EXPECT_EQ(train(gpu).ledger, train(each).ledger) << graph << " with " << each.groups.size() << " rules";
    }
}

TEST(FrozenForAWhile, RefusesWhatIsNotTrained) {
  const auto complaint = [](const std::string& path, std::vector<std::string> groups) {
    return error_of([&] {
      Setting setting{.groups = std::move(groups), .freeze = {path}};
      setting.freeze_at = 0;
      train(setting);
    });
  };
  EXPECT_THAT(complaint("first/wieght", {}), HasSubstr("first/weight"));
  EXPECT_THAT(complaint("adam/iteration", {}), HasSubstr("adam/iteration is not trained"));
  EXPECT_THAT(complaint("first/bias", {"first/.* => freeze"}), HasSubstr("first/bias is not trained"));
}

}  // namespace
}  // namespace lockstep
