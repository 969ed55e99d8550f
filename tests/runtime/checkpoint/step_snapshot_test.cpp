// SPDX-License-Identifier: Apache-2.0
// A snapshot is a checkpoint of the last step: a run goes on from it on any number of ranks, and where one was being
// written when the run ended, the one before it serves.
#include "runtime/checkpoint/step_snapshot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/cases.h"
#include "tests/support/files.h"
#include "tests/support/toy_training.h"

namespace lockstep {
namespace {

using testing::HasSubstr;
using toy::Outcome;
using toy::Setting;

constexpr int64_t kSteps = 7;

// Five steps with a snapshot after each: the fifth lies in the second place, the fourth in the first.
void take_five(const std::string& folder, int ranks) {
  (void)toy::train({.ranks = ranks, .steps = 5, .snapshots = folder});
}

Outcome gone_on(const std::string& folder, int ranks) {
  return toy::train({.ranks = ranks, .steps = kSteps, .seed = 77, .resume_snapshots = folder});
}

void expect_end_of(const Outcome& whole, const Outcome& rest, int64_t step, const std::string& what) {
  EXPECT_EQ(rest.first_step, step) << what;
  EXPECT_EQ(rest.ledger, std::vector(whole.ledger.begin() + step, whole.ledger.end())) << what;
  EXPECT_EQ(rest.values, whole.values) << what;
}

void flip(const std::string& path, int64_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(at);
  const int byte = file.get();
  file.seekp(at);
  file.put(char(byte ^ 1));
}

TEST(StepSnapshot, IsWhatARunGoesOnFromOnAnyNumberOfRanks) {
  const Outcome whole = toy::train({.steps = kSteps});
  for (const int before : cases({1, 2, 3, 4}))
    for (const int after : cases({1, 2, 3, 4})) {
      const TemporaryFolder folder(folder_in_memory());
      take_five(folder.path(), before);
      expect_end_of(whole, gone_on(folder.path(), after), 5, str(before, " to ", after));
    }
}

TEST(StepSnapshot, LeavesTheOneBeforeWhereTheNewestIsNotWhole) {
  const Outcome whole = toy::train({.steps = kSteps});
  for (const char* name : {"state.json", "shard_00000.safetensors", "shard_00001.safetensors"})
    for (const bool cut : {true, false})
      for (const double share : {0.0, 0.05, 0.5, 0.99}) {
        const TemporaryFolder folder(folder_in_memory());
        take_five(folder.path(), 2);
        const std::string path = folder / (std::string("odd/") + name);
        const auto bytes = int64_t(std::filesystem::file_size(path));
        if (cut)
          std::filesystem::resize_file(path, uintmax_t(double(bytes) * share));
        else
          flip(path, int64_t(double(bytes) * share));
        expect_end_of(whole, gone_on(folder.path(), 3), 4,
                      str(name, cut ? " cut at " : " with a bit flipped at ", share));
      }
}

TEST(StepSnapshot, IsNeverAMixture) {
  const TemporaryFolder folder(folder_in_memory());
  take_five(folder.path(), 2);
  // One rank had come to the next step: its shard is of the sixth, and everything else in that place of the fourth.
  std::filesystem::copy_file(folder / "odd/shard_00001.safetensors", folder / "even/shard_00001.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_EQ(gone_on(folder.path(), 2).first_step, 5);
  std::filesystem::remove(folder / "odd/state.json");
  const std::vector<SnapshotPlace> found = find_snapshots(folder.path());
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].step, 4) << "so it says, and nobody has looked at the rest";
  EXPECT_THAT(error_of([&] { gone_on(folder.path(), 2); }), HasSubstr("no checkpoint can be read"));
}

TEST(StepSnapshot, KeepsWhatIsThereUntilItIsReplaced) {
  const Outcome whole = toy::train({.steps = kSteps});
  const TemporaryFolder folder(folder_in_memory());
  take_five(folder.path(), 4);
  // Other ranks that go on reserve their memory, and end before they have taken a step.
  Setting none{.ranks = 2, .steps = 5, .resume_snapshots = folder.path()};
  none.snapshots = folder.path();
  EXPECT_EQ(toy::train(none).first_step, 5);
  expect_end_of(whole, gone_on(folder.path(), 3), 5, "after other ranks");
}

TEST(StepSnapshot, GivesWayToACheckpointOfTheSameStep) {
  const TemporaryFolder folder(folder_in_memory());
  std::filesystem::create_directory(folder / "memory");
  (void)toy::train({.ranks = 2, .steps = 5, .checkpoints = folder / "run", .snapshots = folder / "memory"});
  run_thread_ranks({.ranks = 2, .node_of = {}}, [&](Communicator& ranks) {
    const auto newest = [&] {
      return load_newest_checkpoint(ranks, folder / "run", Copies::per_node, folder / "memory");
    };
    EXPECT_FALSE(newest().is_snapshot);
    ranks.barrier();
    if (ranks.rank() == 0) std::filesystem::remove_all(folder / "run/step_00000005");
    ranks.barrier();
    const NewestCheckpoint snapshot = newest();
    EXPECT_TRUE(snapshot.is_snapshot);
    EXPECT_EQ(snapshot.loaded->manifest.run.step, 5);
  });
}

}  // namespace
}  // namespace lockstep
