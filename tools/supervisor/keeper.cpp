// SPDX-License-Identifier: Apache-2.0
#include "tools/supervisor/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

using Clock = std::chrono::steady_clock;

constexpr unsigned char kEnd = 0;  // other commands are signals to pass on
constexpr int kPassedOn[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
constexpr std::chrono::milliseconds kLook{20};
// mpirun gives its ranks two seconds, and whoever looks for what is left after five is to find nothing.
constexpr std::chrono::milliseconds kGrace{3500};
constexpr std::chrono::milliseconds kOrphans{1000};

int code_of(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

// The parent of each process of this machine.
std::map<pid_t, pid_t> parents() {
  std::map<pid_t, pid_t> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const std::string name = entry.path().filename();
    pid_t id = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (error != std::errc() || end != name.data() + name.size()) continue;
    std::ifstream file(str("/proc/", id, "/status"));
    for (std::string key; file >> key; std::getline(file, key))
      if (key == "PPid:") {
        file >> found[id];
        break;
      }
  }
  return found;
}

std::vector<pid_t> descendants() {
  const std::map<pid_t, pid_t> parent = parents();
  std::vector<pid_t> found;
  for (const auto& [id, first] : parent) {
    pid_t at = first;
    // A table that is read while processes come and go may have a circle in it.
    for (size_t i = 0; i < parent.size() && at > 1 && at != getpid(); ++i) {
      const auto next = parent.find(at);
      at = next == parent.end() ? 0 : next->second;
    }
    if (at == getpid()) found.push_back(id);
  }
  return found;
}

[[noreturn]] void become(const LauncherCommand& command, pid_t keeper) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != keeper) _exit(1);
  for (const int signal : kPassedOn) ::signal(signal, SIG_DFL);
  ::signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // The group of a launcher is not that of the terminal, which would stop whoever reads from it.
  const int nothing = ::open("/dev/null", O_RDONLY);
  if (nothing > 0) dup2(nothing, 0);
  for (const auto& [name, value] : command.environment) setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> words;
  for (const std::string& word : command.words) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  execvp(words[0], words.data());
  std::fprintf(stderr, "lockstep: error: [launch] cannot start '%s': %s; name the launcher with --launcher\n", words[0],
               std::strerror(errno));
  _exit(127);
}

class Keeper {
 public:
  Keeper(const LauncherCommand& command, int commands, int reports)
      : command_(command), commands_(commands), reports_(reports) {}

  [[noreturn]] void run() {
    setpgid(0, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (const int signal : kPassedOn) ::signal(signal, SIG_IGN);
    ::signal(SIGPIPE, SIG_IGN);
    const pid_t self = getpid();
    launcher_ = fork();
    if (launcher_ == 0) become(command_, self);
    while (!is_over()) listen();
    std::error_code ignored;
    if (abandoned_) std::filesystem::remove_all(command_.folder, ignored);
    (void)!write(reports_, &code_, sizeof code_);
    _exit(0);
  }

 private:
  void listen() {
    pollfd ready{commands_, POLLIN, 0};
    if (abandoned_) {
      usleep(useconds_t(std::chrono::microseconds(kLook).count()));
    } else if (poll(&ready, 1, int(kLook.count())) > 0) {
      unsigned char command = kEnd;
      const ssize_t got = read(commands_, &command, 1);
      if (got == 0) abandoned_ = true;
      if (got >= 0 && command == kEnd) begin_end();
      if (got == 1 && command != kEnd && launcher_ > 0) kill(launcher_, command);
    }
  }

  void begin_end() {
    if (ends_at_) return;
    ends_at_ = Clock::now() + kGrace;
    if (launcher_ > 0) kill(launcher_, SIGTERM);
  }

  bool is_over() {
    int status = 0;
    pid_t ended = 0;
    while ((ended = waitpid(-1, &status, WNOHANG)) > 0)
      if (ended == launcher_) {
        launcher_ = -1;
        code_ = code_of(status);
        const auto soon = Clock::now() + kOrphans;
        ends_at_ = ends_at_ ? std::min(*ends_at_, soon) : soon;
      }
    if (ended < 0 && errno == ECHILD) return true;
    if (ends_at_ && Clock::now() > *ends_at_)
      for (const pid_t id : descendants()) kill(id, SIGKILL);
    return false;
  }

  const LauncherCommand& command_;
  int commands_, reports_;
  pid_t launcher_ = -1;
  bool abandoned_ = false;                    // the supervisor has gone
  std::optional<Clock::time_point> ends_at_;  // when patience does
  int code_ = 128 + SIGKILL;
};

}  // namespace

KeptLauncher::KeptLauncher(const LauncherCommand& command) {
  int commands[2] = {-1, -1}, reports[2] = {-1, -1};
  const bool made = pipe2(commands, O_CLOEXEC) == 0 && pipe2(reports, O_CLOEXEC) == 0;
  const FileDescriptor read_commands(commands[0]), write_reports(reports[1]);
  commands_ = FileDescriptor(commands[1]);
  reports_ = FileDescriptor(reports[0]);
  // Should the keeper be killed, its children become this process's.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  std::fflush(nullptr);
  ::signal(SIGPIPE, SIG_IGN);  // of a keeper that was killed
  if (made) keeper_ = fork();
  check(keeper_ >= 0, ErrorCode::device, [&] {
    return str("cannot start a process: ", std::strerror(errno),
               "; raise the limits (ulimit -u, pids.max of the "
               "container)");
  });
  if (keeper_ > 0) return;
  // The keeper has to see when the supervisor closes these.
  commands_.close();
  reports_.close();
  Keeper(command, read_commands.number(), write_reports.number()).run();
}

KeptLauncher::~KeptLauncher() {
  end();
  while (!exit_code()) usleep(useconds_t(std::chrono::microseconds(kLook).count()));
}

void KeptLauncher::tell(unsigned char command) { (void)!write(commands_.number(), &command, 1); }
void KeptLauncher::pass_on(int signal) { tell(static_cast<unsigned char>(signal)); }
void KeptLauncher::end() {
  if (!code_) tell(kEnd);
}

std::optional<int> KeptLauncher::exit_code() {
  if (code_) return code_;
  pollfd ready{reports_.number(), POLLIN, 0};
  if (poll(&ready, 1, 0) <= 0) return std::nullopt;
  int code = 128 + SIGKILL;
  // Nothing comes from a keeper that was killed, and its children have become those of this process.
  if (read(reports_.number(), &code, sizeof code) != sizeof code) kill_descendants();
  waitpid(keeper_, nullptr, 0);
  code_ = code;
  return code_;
}

void kill_descendants() {
  // Each look finds those that the ones before it have started meanwhile.
  for (;;) {
    for (const pid_t id : descendants()) kill(id, SIGKILL);
    while (waitpid(-1, nullptr, WNOHANG) > 0) continue;
    if (waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD) return;
    usleep(useconds_t(std::chrono::microseconds(kLook).count()));
  }
}

}  // namespace lockstep
