// SPDX-License-Identifier: Apache-2.0
// A checkpoint is there whole or not at all: a run that is killed at any operation on its files, or whose disk fails
// there, leaves checkpoints that are whole, and what is damaged later is refused by name, with the one before taken.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>

#include "runtime/checkpoint/checkpoint_folder.h"
#include "tests/support/cases.h"
#include "tests/support/files.h"
#include "tests/support/toy_training.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;
using toy::Outcome;
using toy::Setting;

// Three checkpoints, of which two are kept: every operation takes place, also those of removing.
Setting three_checkpoints(const std::string& folder) {
  return {.ranks = 2, .steps = 3, .optimizer = "sgd", .checkpoints = folder, .keep = {.newest = 2}};
}

// Calls `happen` at one operation of all ranks together, by its number from 1 on.
FileOperations::Before at_operation(int64_t number, std::atomic<int64_t>& count, std::function<int()> happen) {
  return [number, &count, happen](std::string_view, const std::string&) { return ++count == number ? happen() : 0; };
}

int64_t operations_of_a_run() {
  const TemporaryFolder folder(folder_in_memory());
  std::atomic<int64_t> count{0};
  Setting setting = three_checkpoints(folder / "run");
  setting.before_operation = at_operation(0, count, [] { return 0; });
  (void)toy::train(setting);
  return count;
}

// Whatever is called a checkpoint is one. Returns their steps.
std::vector<int64_t> whole_checkpoints(const std::string& folder) {
  const std::vector<int64_t> steps = list_checkpoints(folder);
  for (const int64_t step : steps)
    EXPECT_EQ(error_of([&] { CheckpointReader(in_folder(folder, checkpoint_name(step))).verify(); }), "");
  return steps;
}

// Goes on to the fifth step on three ranks, as if nothing had happened, and leaves nothing behind.
void expect_to_go_on(const std::string& folder, const Outcome& five, const std::string& what) {
  Setting setting = three_checkpoints(folder);
  setting.ranks = 3;
  setting.steps = 5;
  setting.resume = folder;
  const Outcome rest = toy::train(setting);
  EXPECT_THAT(rest.complaints, IsEmpty()) << what;
  EXPECT_EQ(rest.ledger, std::vector(five.ledger.begin() + rest.first_step, five.ledger.end())) << what;
  EXPECT_EQ(rest.values, five.values) << what;
  EXPECT_THAT(whole_checkpoints(folder), ElementsAre(5, 4)) << what;
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  EXPECT_THAT(names, testing::UnorderedElementsAre("step_00000005", "step_00000004", "latest")) << what;
}

TEST(CheckpointCommit, LeavesWholeCheckpointsWhereverTheProcessIsKilled) {
  const Outcome five = toy::train({.steps = 5, .optimizer = "sgd"});
  const int64_t operations = operations_of_a_run();
  EXPECT_GT(operations, 50);
  std::vector<int64_t> numbers;
  for (int64_t number = 1; number <= operations; ++number) numbers.push_back(number);
  std::map<size_t, int> left;  // how many kills left so many checkpoints
  for (const int64_t number : cases(numbers, 12)) {
    const TemporaryFolder folder(folder_in_memory());
    const std::string run = folder / "run", what = str("killed at operation ", number);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      std::atomic<int64_t> count{0};
      Setting setting = three_checkpoints(run);
      setting.before_operation = at_operation(number, count, [] { return ::raise(SIGKILL); });
      (void)toy::train(setting);
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << what;
    const std::vector<int64_t> steps = whole_checkpoints(run);
    ++left[steps.size()];
    if (!steps.empty()) expect_to_go_on(run, five, what);
  }
  // Kills before the first one, in its course, and while old ones are being removed.
  EXPECT_GT(left[0], 0);
  EXPECT_GT(left[2], 0);
}

TEST(CheckpointCommit, LetsTrainingGoOnWhereTheDiskFails) {
  const Outcome three = toy::train({.steps = 3, .optimizer = "sgd"});
  const int64_t operations = operations_of_a_run();
  std::vector<int64_t> numbers;
  for (int64_t number = 1; number <= operations; ++number) numbers.push_back(number);
  for (const int64_t number : cases(numbers, 12)) {
    const int error = number % 2 == 0 ? ENOSPC : EIO;
    const TemporaryFolder folder(folder_in_memory());
    const std::string run = folder / "run", what = str("error ", error, " at operation ", number);
    std::atomic<int64_t> count{0};
    Setting setting = three_checkpoints(run);
    setting.before_operation = at_operation(number, count, [error] { return error; });
    const Outcome outcome = toy::train(setting);
    EXPECT_EQ(outcome.ledger, three.ledger) << what;
    ASSERT_EQ(outcome.complaints.size(), 1U) << what;
    EXPECT_THAT(outcome.complaints[0],
                AllOf(HasSubstr("the checkpoint of step "), HasSubstr(run), HasSubstr(std::strerror(error))))
        << what;
    const std::vector<int64_t> steps = whole_checkpoints(run);
    EXPECT_GE(steps.size(), 2U) << what;
    EXPECT_GE(steps.front(), 2) << what;
    EXPECT_THAT(list_checkpoints(run, kPartialSuffix), IsEmpty()) << what;
  }
}

TEST(CheckpointCommit, LetsOneRunAtATimeWriteIntoAFolder) {
  const TemporaryFolder folder(folder_in_memory());
  std::filesystem::create_directory(folder / "run");
  const FolderLock lock(folder / "run");
  EXPECT_THAT(error_of([&] { toy::train(three_checkpoints(folder / "run")); }),
              AllOf(StartsWith("file: another run writes checkpoints into"), HasSubstr(folder / "run")));
}

// Two checkpoints in one folder, the first step's and the second's, and the path of a shard of the newer one.
struct TwoCheckpoints {
  TemporaryFolder folder{folder_in_memory()};
  std::string run = folder / "run", newer = run + "/step_00000002", shard = newer + "/" + shard_name(1);
  TwoCheckpoints() { (void)toy::train({.ranks = 2, .steps = 2, .optimizer = "sgd", .checkpoints = run}); }
  std::string refusal() const {
    return error_of([&] { CheckpointReader(newer).verify(); });
  }
};

TEST(DamagedCheckpoint, IsRefusedWhereverAShardIsCut) {
  const TwoCheckpoints two;
  const std::string bytes = read_file(two.shard);
  ASSERT_EQ(two.refusal(), "");
  std::vector<size_t> lengths;
  for (size_t length = 0; length < bytes.size(); ++length) lengths.push_back(length);
  for (const size_t length : cases(lengths, 200)) {
    write_file(two.shard, std::string_view(bytes).substr(0, length));
    ASSERT_THAT(two.refusal(), AllOf(StartsWith("data: "), HasSubstr(two.shard))) << length;
  }
}

TEST(DamagedCheckpoint, IsRefusedWhateverBitOfAShardIsAnother) {
  const TwoCheckpoints two;
  const std::string bytes = read_file(two.shard);
  std::vector<size_t> places;
  for (size_t byte = 0; byte < bytes.size(); ++byte) places.push_back(byte);
  for (const size_t byte : cases(places, 200)) {
    std::string changed = bytes;
    changed[byte] = char(changed[byte] ^ (1 << (byte % 8)));
    write_file(two.shard, changed);
    ASSERT_THAT(two.refusal(), AllOf(StartsWith("data: "), HasSubstr(two.shard))) << byte;
  }
}

TEST(DamagedCheckpoint, IsRefusedForEverythingElseThatIsWrongInTheFolder) {
  const TwoCheckpoints two;
  const std::string bytes = read_file(two.shard), other = read_file(two.newer + "/" + shard_name(0));
  write_file(two.shard, read_file(two.run + "/step_00000001/" + shard_name(1)));
  EXPECT_THAT(two.refusal(), HasSubstr("should say that its step is '2'"));
  write_file(two.shard, other);
  EXPECT_THAT(two.refusal(), AllOf(StartsWith("data: "), HasSubstr(two.shard)));
  write_file(two.shard, bytes + "x");
  EXPECT_THAT(two.refusal(), AllOf(StartsWith("data: "), HasSubstr(two.shard)));
  std::filesystem::remove(two.shard);
  EXPECT_THAT(two.refusal(), AllOf(StartsWith("file: "), HasSubstr(two.shard)));
  write_file(two.folder / "elsewhere", bytes);
  std::filesystem::create_symlink(two.folder / "elsewhere", two.shard);
  EXPECT_THAT(two.refusal(), AllOf(StartsWith("file: "), HasSubstr("symbolic link")));
  std::filesystem::remove(two.shard);
  write_file(two.shard, bytes);
  EXPECT_EQ(two.refusal(), "");
  // The manifest of another checkpoint, and a link in its place.
  std::filesystem::copy_file(two.run + "/step_00000001/manifest.json", two.newer + "/manifest.json",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(two.refusal(), StartsWith("data: "));
}

TEST(DamagedCheckpoint, MakesARunGoOnFromTheOneBefore) {
  const Outcome six = toy::train({.steps = 6, .optimizer = "sgd"});
  using Damage = std::function<void(const TwoCheckpoints&)>;
  for (const Damage& damage :
       {Damage([](const TwoCheckpoints& two) { std::filesystem::remove(two.shard); }),
        Damage([](const TwoCheckpoints& two) {
          std::string bytes = read_file(two.shard);
          bytes.back() = char(bytes.back() ^ 1);
          write_file(two.shard, bytes);
        }),
        Damage([](const TwoCheckpoints& two) { write_file(two.newer + "/manifest.json", "{"); })}) {
    const TwoCheckpoints two;
    damage(two);
    const Outcome rest = toy::train({.ranks = 3, .steps = 6, .optimizer = "sgd", .resume = two.run});
    EXPECT_EQ(rest.first_step, 1);
    EXPECT_THAT(rest.complaints, ElementsAre(HasSubstr(two.newer)));
    EXPECT_EQ(rest.ledger, std::vector(six.ledger.begin() + 1, six.ledger.end()));
  }
}

TEST(DamagedCheckpoint, EndsTheRunWhereNoneCanBeRead) {
  const TwoCheckpoints two;
  for (const char* step : {"/step_00000001", "/step_00000002"})
    std::filesystem::remove(two.run + step + "/manifest.json");
  EXPECT_THAT(error_of([&] { toy::train({.ranks = 2, .optimizer = "sgd", .resume = two.run}); }),
              "data: no checkpoint can be read");
}

TEST(CheckpointFolder, KnowsItsNames) {
  EXPECT_EQ(checkpoint_name(500), "step_00000500");
  EXPECT_EQ(step_of_name("step_00000500"), 500);
  EXPECT_EQ(step_of_name("step_123456789012"), 123456789012);
  EXPECT_EQ(step_of_name("step_00000500.partial", kPartialSuffix), 500);
  for (const char* name : {"step_500", "step_-0000500", "step_00000500.partial", "step_", "step_0000050x", "latest",
                           "step_000000500", " step_00000500"})
    EXPECT_EQ(step_of_name(name), std::nullopt) << name;
  EXPECT_EQ(folder_around("run/step_00000500/"), "run");
  EXPECT_EQ(folder_around("step_00000500"), ".");
  EXPECT_EQ(folder_around("/x"), "/");
  EXPECT_THAT(steps_to_remove({900, 800, 700, 600, 500}, {.newest = 2, .every = 300}), ElementsAre(800 - 100, 500));
  EXPECT_THAT(steps_to_remove({900, 800}, {.newest = 3}), IsEmpty());
}

}  // namespace
}  // namespace lockstep
