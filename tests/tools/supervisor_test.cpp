// SPDX-License-Identifier: Apache-2.0
// What a supervisor makes of heartbeats, and that nothing outlives its keeper.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>

#include "tests/support/files.h"
#include "tools/supervisor/incident_log.h"
#include "tools/supervisor/keeper.h"
#include "tools/supervisor/rank_watch.h"
#include "tools/supervisor/shared_folder.h"

namespace lockstep {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

// A process that waits until it is killed.
class Sleeper {
 public:
  Sleeper() : id_(fork()) {
    if (id_ == 0)
      for (;;) pause();
  }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;
  ~Sleeper() {
    kill(id_, SIGKILL);
    waitpid(id_, nullptr, 0);
  }
  pid_t id() const { return id_; }
  // Sends the signal and waits until the system says so.
  void signal(int signal, char state) const {
    kill(id_, signal);
    while (state_of_process(id_) != state) std::this_thread::sleep_for(1ms);
  }

 private:
  pid_t id_;
};

// Two ranks, of which each is a process that sleeps.
class Watch : public testing::Test {
 protected:
  Watch() {
    shared->mark = Supervision::kMark;
    watch.begin_life(1);
    for (int rank = 0; rank < 2; ++rank) {
      Heartbeat& slot = shared->ranks[rank];
      slot.process = processes[rank].id();
      slot.process_start = start_of_process(processes[rank].id());
      slot.ranks = 2;
      slot.slow_step = std::chrono::nanoseconds(100ms).count();
      beat(rank, RankPhase::stepping, 7);
    }
    look(0ms);
  }
  void beat(int rank, RankPhase phase, int64_t step) {
    shared->ranks[rank].phase = phase;
    shared->ranks[rank].step = step;
    ++shared->ranks[rank].beats;
  }
  void look(std::chrono::milliseconds later) { watch.look(now += later); }
  void look_for(std::chrono::milliseconds time) {
    for (auto at = 0ms; at < time; at += 50ms) look(50ms);
  }

  Sleeper processes[2];
  std::unique_ptr<Supervision> shared = std::make_unique<Supervision>();
  RankWatch watch{*shared};
  RankWatch::Clock::time_point now = RankWatch::Clock::now();
};

TEST_F(Watch, NamesTheRankThatIsGone) {
  EXPECT_FALSE(watch.gone());
  EXPECT_EQ(watch.furthest(), 7);
  processes[1].signal(SIGKILL, 'Z');
  look(60ms);
  ASSERT_TRUE(watch.gone());
  EXPECT_EQ(watch.gone()->rank, 1);
  EXPECT_EQ(watch.gone()->what, str("rank 1 (process ", processes[1].id(), ") is gone in step 7"));
  watch.begin_life(2);
  EXPECT_FALSE(watch.gone());
  EXPECT_TRUE(watch.is_silent());
}

TEST_F(Watch, LetsRanksEndThatHaveComeToTheirEnd) {
  beat(1, RankPhase::ended, 8);
  look(20ms);
  processes[1].signal(SIGKILL, 'Z');
  look(60ms);
  EXPECT_FALSE(watch.gone());
}

TEST_F(Watch, NamesTheRankThatOthersWaitFor) {
  beat(0, RankPhase::stepping, 8);
  look_for(1200ms);
  EXPECT_FALSE(watch.hang());  // three times 100 ms and a second have not passed
  look_for(200ms);
  ASSERT_TRUE(watch.hang());
  EXPECT_EQ(watch.hang()->kind, "hang");
  EXPECT_EQ(watch.hang()->rank, 1);
  processes[0].signal(SIGSTOP, 'T');
  EXPECT_EQ(watch.hang()->kind, "stopped");
  EXPECT_EQ(watch.hang()->rank, 0);
}

TEST_F(Watch, GivesNoAlarmWhereSomebodyWorks) {
  for (int i = 0; i < 20; ++i) {
    look_for(200ms);
    beat(1, RankPhase::stepping, 7 + i);
    look(10ms);
    EXPECT_FALSE(watch.hang());
  }
}

TEST_F(Watch, GivesNoAlarmBetweenStepsOrBeforeTheyAreMeasured) {
  beat(0, RankPhase::between, 8);
  beat(1, RankPhase::between, 8);
  look_for(10'000ms);
  EXPECT_FALSE(watch.hang());
  beat(0, RankPhase::stepping, 8);
  look_for(1200ms);
  shared->ranks[0].slow_step = shared->ranks[1].slow_step = 0;
  look_for(10'000ms);
  EXPECT_FALSE(watch.hang());
  // Unless somebody is stopped.
  processes[1].signal(SIGSTOP, 'T');
  ASSERT_TRUE(watch.hang());
  EXPECT_EQ(watch.hang()->rank, 1);
}

TEST_F(Watch, DoesNotCountTimeInWhichNobodyLooked) {
  for (int i = 0; i < 10; ++i) look(3'600'000ms);
  EXPECT_FALSE(watch.hang());
  look_for(1000ms);
  EXPECT_TRUE(watch.hang());
}

TEST_F(Watch, KnowsWhereALifeHasBegun) {
  EXPECT_EQ(watch.resumed_at(), std::optional<int64_t>(0));
  shared->ranks[0].first_step = shared->ranks[1].first_step = 7;
  EXPECT_EQ(watch.resumed_at(), std::nullopt);
  beat(1, RankPhase::between, 8);
  EXPECT_EQ(watch.resumed_at(), std::optional<int64_t>(7));
}

int code_of(const LauncherCommand& command) {
  KeptLauncher launcher(command);
  for (;;) {
    if (const auto code = launcher.exit_code()) return *code;
    std::this_thread::sleep_for(5ms);
  }
}

LauncherCommand shell(const std::string& script, const std::string& folder = "") {
  return {.words = {"sh", "-c", script}, .environment = {{"LOCKSTEP_TEST", "7"}}, .folder = folder};
}

// The number in a file that a process writes.
pid_t process_in(const std::string& path) {
  for (;;) {
    pid_t id = 0;
    if (std::ifstream(path) >> id) return id;
    std::this_thread::sleep_for(5ms);
  }
}

bool is_gone_soon(pid_t id) {
  for (int i = 0; i < 500 && start_of_process(id) != 0; ++i) std::this_thread::sleep_for(10ms);
  return start_of_process(id) == 0;
}

TEST(Keeper, TellsHowTheLauncherEnded) {
  EXPECT_EQ(code_of(shell("exit $LOCKSTEP_TEST")), 7);
  EXPECT_EQ(code_of(shell("kill -9 $$")), 128 + SIGKILL);
  testing::internal::CaptureStderr();
  EXPECT_EQ(code_of({.words = {"/nowhere/mpirun"}, .environment = {}, .folder = ""}), 127);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("[launch] cannot start '/nowhere/mpirun'"));
}

TEST(Keeper, PassesSignalsOn) {
  const TemporaryFolder folder;
  KeptLauncher launcher(shell("trap 'exit 5' USR1; echo $$ >" + folder / "id" + "; while :; do sleep 0.01; done"));
  (void)process_in(folder / "id");
  launcher.pass_on(SIGUSR1);
  while (!launcher.exit_code()) std::this_thread::sleep_for(5ms);
  EXPECT_EQ(launcher.exit_code(), 5);
}

TEST(Keeper, EndsWhatALauncherLeavesBehind) {
  const TemporaryFolder folder;
  // In a session of its own, as ranks of MPICH are.
  EXPECT_EQ(code_of(shell("setsid sh -c 'echo $$ >" + folder / "id" + "; exec sleep 1000' & sleep 0.2; exit 0")), 0);
  EXPECT_TRUE(is_gone_soon(process_in(folder / "id")));
}

TEST(Keeper, EndsEverythingWhenItsSupervisorIsKilled) {
  const TemporaryFolder folder;
  const std::string shared = folder / "shared";
  std::filesystem::create_directory(shared);
  const pid_t supervisor = fork();
  if (supervisor == 0) {
    const KeptLauncher launcher(shell("echo $$ >" + folder / "id" + "; exec sleep 1000", shared));
    for (;;) pause();
  }
  const pid_t launched = process_in(folder / "id");
  kill(supervisor, SIGKILL);
  waitpid(supervisor, nullptr, 0);
  EXPECT_TRUE(is_gone_soon(launched));
  for (int i = 0; i < 500 && std::filesystem::exists(shared); ++i) std::this_thread::sleep_for(10ms);
  EXPECT_FALSE(std::filesystem::exists(shared));
}

TEST(SharedFolder, GoesWithItsOwnerAndTakesThoseOfDeadOnesAlong) {
  std::string path, left;
  {
    const SharedFolder folder;
    path = folder.path();
    (void)SupervisionFile::make(path);
    EXPECT_EQ(SupervisionFile::open(path)->supervisor, getpid());
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  const pid_t child = fork();
  if (child == 0) {
    auto* lost = new SharedFolder;  // its destructor never runs
    (void)SupervisionFile::make(lost->path());
    _exit(0);
  }
  left = path.substr(0, path.rfind('_') + 1) + std::to_string(child);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(std::filesystem::exists(left));
  const SharedFolder next;
  EXPECT_FALSE(std::filesystem::exists(left));
}

TEST(IncidentLog, GrowsByOneObjectALine) {
  const TemporaryFolder folder;
  testing::internal::CaptureStderr();
  IncidentLog log(folder / "log");
  log.write(
      {.what = "rank 1 is gone", .kind = "killed", .life = 2, .ranks = 4, .step = 7, .action = "starting it again"});
  log.write({.what = "more", .kind = "exit"});
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("lockstep: incident: rank 1 is gone; starting it again\n"));
  std::ifstream file(folder / "log");
  std::string line;
  std::getline(file, line);
  EXPECT_THAT(line,
              testing::MatchesRegex("\\{\"time\":\"....-..-..T..:..:..Z\",\"kind\":\"killed\",\"what\":\"rank 1 is "
                                    "gone\",\"life\":2,\"ranks\":4,\"step\":7,\"action\":\"starting it again\"\\}"));
  std::getline(file, line);
  EXPECT_THAT(line, HasSubstr("\"kind\":\"exit\""));
  // A log that cannot be written does not end a run.
  testing::internal::CaptureStderr();
  IncidentLog nowhere(folder / "no/log");
  nowhere.write({.what = "once", .kind = "exit"});
  nowhere.write({.what = "twice", .kind = "exit"});
  const std::string printed = testing::internal::GetCapturedStderr();
  EXPECT_THAT(printed, HasSubstr("warning: the log of incidents is not written"));
  EXPECT_EQ(printed.find("warning"), printed.rfind("warning"));
}

}  // namespace
}  // namespace lockstep
