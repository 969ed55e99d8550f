// SPDX-License-Identifier: Apache-2.0
#include "tools/supervisor/supervisor.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <optional>
#include <sstream>
#include <thread>

#include "collectives/bootstrap.h"
#include "kernels/device/check.h"
#include "tools/supervisor/incident_log.h"
#include "tools/supervisor/keeper.h"
#include "tools/supervisor/rank_watch.h"
#include "tools/supervisor/shared_folder.h"
#include "tools/supervisor/supervised_run.h"
#include "tools/training/stop_request.h"

namespace lockstep {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kUsage = 2, kNotStarted = 127;  // exit codes
constexpr std::chrono::milliseconds kLook{20};

void check_options(const SupervisorOptions& options, const std::vector<std::string>& train) {
  check(!train.empty() && train[0] == "train", ErrorCode::usage, [&] {
    return str("lockstep run starts a training: expected 'train' and its options behind '--', got ",
               train.empty() ? "nothing" : "'" + train[0] + "'",
               "; such as: lockstep run -np 4 -- train --checkpoint-dir run/ --checkpoint-every 500");
  });
  const auto at_least = [](const char* option, double value, int64_t least) {
    check(value >= double(least), ErrorCode::usage,
          [&] { return str(option, ": expected at least ", least, ", got ", value); });
  };
  at_least("-np", double(options.ranks), 0);
  check(options.ranks <= Supervision::kMostRanks, ErrorCode::usage,
        [&] { return str("-np: expected at most ", Supervision::kMostRanks, " ranks, got ", options.ranks); });
  at_least("--give-up-after", double(options.give_up_after), 1);
  at_least("--backoff", options.backoff_seconds, 0);
  at_least("--snapshot-every", double(options.snapshot_every), 0);
  const LauncherClaim claim = read_launcher();
  check(claim.launcher.empty(), ErrorCode::usage, [&] {
    return str("lockstep run was itself started by ", claim.launcher, " as rank ", claim.rank,
               "; it starts the launcher, so start it without one");
  });
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

std::string steps_text(int64_t step) { return step < 0 ? std::string("before the first step") : str("at step ", step); }

std::string exit_text(int code) {
  if (code <= 128 || code > 128 + SIGSYS) return str("exit code ", code);
  return str("exit code ", code, " (", name_of_signal(code - 128), ")");
}

class Supervisor {
 public:
  Supervisor(const SupervisorOptions& options, const std::vector<std::string>& train)
      : options_(options),
        train_(train),
        shared_(SupervisionFile::make(folder_.path())),
        watch_(*shared_),
        log_(options.incidents),
        ranks_(options.ranks) {
    shared_->snapshot_every = options.snapshot_every;
  }

  int run() {
    for (life_ = 1;; ++life_) {
      folder_.begin_life();
      watch_.begin_life(life_);
      const int code = live();
      if (code == 0 || code == kUsage || asked_.signal() != 0) return code;
      if (code == kNotStarted && watch_.is_silent()) return 1;  // which has been said
      note_fault(code);
      if (const std::optional<int> stopped = wait_before_next()) return *stopped;
    }
  }

 private:
  LauncherCommand command() const {
    LauncherCommand command{.words = {}, .environment = folder_.launcher_environment(), .folder = folder_.path()};
    command.environment[kSupervisorVariable] = folder_.path();
    if (!options_.incidents.empty())
      command.environment[kIncidentsVariable] = std::filesystem::absolute(options_.incidents);
    if (ranks_ > 0) {
      command.words = words_of(options_.launcher);
      command.words.insert(command.words.end(), {"-np", str(ranks_)});
    }
    command.words.push_back(std::filesystem::read_symlink("/proc/self/exe"));
    command.words.insert(command.words.end(), train_.begin(), train_.end());
    return command;
  }

  // One life of the run, until nothing of it is left. Returns the exit code of its launcher.
  int live() {
    KeptLauncher launcher(command());
    bool told = false, ending = false;
    Clock::time_point patience{};
    trouble_.reset();
    for (;; std::this_thread::sleep_for(kLook)) {
      // What the ranks have said counts also when their processes are gone by now.
      const std::optional<int> code = launcher.exit_code();
      watch_.look(Clock::now());
      note_progress();
      if (code) return *code;
      if (!told && asked_.signal() != 0) {
        launcher.pass_on(asked_.signal());
        told = true;
      }
      if (!trouble_ && watch_.gone()) {
        trouble_ = watch_.gone();
        patience = Clock::now() + kTimeToEnd;
      }
      if (trouble_ && !fault_at_) fault_at_ = Clock::now();
      if (ending || told) continue;
      if (trouble_ && Clock::now() < patience) continue;
      if (!trouble_) trouble_ = watch_.hang();
      if (!trouble_) continue;
      if (!fault_at_) fault_at_ = Clock::now();
      launcher.end();
      ending = true;
    }
  }

  // Says, once in a life, that training goes on.
  void note_progress() {
    if (!fault_at_ || resumed_ == life_ || trouble_) return;
    const std::optional<int64_t> first = watch_.resumed_at();
    if (!first) return;
    resumed_ = life_;
    const double seconds = std::chrono::duration<double>(Clock::now() - *fault_at_).count();
    const int64_t repeated = std::max<int64_t>(0, before_ - *first);
    log_.write({.what = fmt::format("training goes on after step {}, {:.1f} s after the fault; {} steps are repeated",
                                    *first, seconds, repeated),
                .kind = "resumed",
                .life = life_,
                .ranks = ranks_,
                .step = *first,
                .repeated_steps = repeated,
                .seconds = seconds});
    fault_at_.reset();
  }

  void note_fault(int code) {
    if (!fault_at_) fault_at_ = Clock::now();
    const int64_t step = std::max(watch_.furthest(), before_);
    failures_ = life_ > 1 && step == before_ ? failures_ + 1 : 1;
    before_ = step;
    Incident incident{.what = trouble_
                                  ? trouble_->what + ", and the run ended with " + exit_text(code)
                                  : str("the run ended ", steps_text(watch_.furthest()), " with ", exit_text(code)),
                      .kind = trouble_             ? trouble_->kind
                              : watch_.is_silent() ? "launcher"
                                                   : "exit",
                      .life = life_,
                      .ranks = ranks_,
                      .step = step,
                      .exit_code = code};
    if (step < 0) incident.step.reset();
    if (trouble_) incident.rank = trouble_->rank, incident.process = trouble_->process;
    const bool hopeless = failures_ >= options_.give_up_after;
    if (!hopeless && trouble_ && step >= 0 && options_.after_fault == RanksAfterFault::left)
      ranks_ = std::max<int64_t>(std::min<int64_t>(ranks_, 1), ranks_ - 1);
    const double seconds = backoff();
    incident.action =
        hopeless ? std::string("giving up")
                 : fmt::format("starting it again{}{}", ranks_ > 0 ? fmt::format(" with {} ranks", ranks_) : "",
                               seconds > 0 ? fmt::format(" in {:g} s", seconds) : "");
    log_.write(incident);
    check(!hopeless, ErrorCode::launch, [&] {
      return str("the run has failed ", failures_, failures_ == 1 ? " time " : " times in a row ", steps_text(step),
                 ", the last time with ", exit_text(code), "; look at ",
                 options_.incidents.empty() ? "what is printed above" : "'" + options_.incidents + "' and above");
    });
  }

  // The first time at a step the fault may be one of the moment.
  double backoff() const {
    constexpr double kLongest = 300;
    return failures_ < 2 ? 0 : std::min(kLongest, options_.backoff_seconds * std::pow(2, double(failures_ - 2)));
  }

  std::optional<int> wait_before_next() const {
    const auto end =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(backoff()));
    while (Clock::now() < end && asked_.signal() == 0) std::this_thread::sleep_for(kLook);
    if (asked_.signal() == 0) return std::nullopt;
    return exit_code_of_signal(asked_.signal());
  }

  // mpirun ends the other ranks within a second when one is gone.
  static constexpr std::chrono::seconds kTimeToEnd{5};

  const SupervisorOptions& options_;
  const std::vector<std::string>& train_;
  const StopRequest asked_;
  SharedFolder folder_;
  SupervisionFile shared_;
  RankWatch watch_;
  IncidentLog log_;
  int64_t ranks_;
  int life_ = 1, resumed_ = 0;
  int64_t failures_ = 0, before_ = -1;  // in a row at step `before_`, the furthest that the run has come to
  std::optional<RankTrouble> trouble_;  // of this life
  std::optional<Clock::time_point> fault_at_;
};

}  // namespace

std::string_view to_string(RanksAfterFault ranks) { return ranks == RanksAfterFault::same ? "same" : "left"; }

int supervise(const SupervisorOptions& options, const std::vector<std::string>& train) {
  check_options(options, train);
  return Supervisor(options, train).run();
}

}  // namespace lockstep
