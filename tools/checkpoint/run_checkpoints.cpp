// SPDX-License-Identifier: Apache-2.0
#include "tools/checkpoint/run_checkpoints.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "collectives/handshake.h"
#include "kernels/device/number_text.h"
#include "runtime/files/standard_output.h"

namespace lockstep {
namespace {

bool is_restarted_job() {
  const char* count = std::getenv("SLURM_RESTART_COUNT");
  return count != nullptr && whole_number_in(count).value_or(0) > 0;
}

bool is_same_folder(const std::string& a, const std::string& b) {
  std::error_code ignored;
  return std::filesystem::equivalent(a, b, ignored);
}

// What only rank 0 can see, told to all.
std::string told_by_rank_0(Communicator& ranks, const std::function<std::string()>& tell) {
  return ranks.all_gather_bytes(ranks.rank() == 0 ? tell() : std::string())[0];
}

// Checkpoints of steps behind `step` would be taken for those of the run that is about to begin.
void check_nothing_newer(Communicator& ranks, const std::string& folder, int64_t step, bool new_run) {
  const std::string newest = told_by_rank_0(ranks, [&] {
    const std::vector<int64_t> steps = list_checkpoints(folder);
    return steps.empty() ? std::string() : str(steps.front());
  });
  if (newest.empty() || std::stoll(newest) <= step) return;
  fail(ErrorCode::usage,
       new_run
           ? str("--checkpoint-dir '", folder, "' holds checkpoints up to step ", newest,
                 "; go on from them with --resume auto, or name another folder")
           : str("--checkpoint-dir '", folder, "' holds checkpoints up to step ", newest, ", newer than step ", step,
                 ", which --resume goes on from; name another folder, or remove them first with lockstep "
                 "checkpoint prune --after ",
                 step));
}

void warn_of_damaged(Communicator& ranks, const NewestCheckpoint& newest) {
  if (ranks.rank() != 0) return;
  for (const auto& [step, complaint] : newest.damaged)
    print_remark(fmt::format("lockstep: warning: the checkpoint of step {} is passed over: {}\n", step, complaint));
}

ResumedRun find_newest(Communicator& ranks, const std::string& folder, Copies copies, const std::string& snapshots) {
  NewestCheckpoint newest = load_newest_checkpoint(ranks, folder, copies, snapshots);
  check(newest.loaded || newest.damaged.empty(), ErrorCode::data, [&] {
    return str("none of the ", newest.damaged.size(), " checkpoints in '", folder,
               "' can be read; the newest: ", newest.damaged.front().second,
               "; mend them, or begin a new run in another folder");
  });
  warn_of_damaged(ranks, newest);
  ResumedRun resumed{.checkpoint = std::move(newest.loaded), .damaged = {}, .from_snapshot = newest.is_snapshot};
  for (const auto& [step, complaint] : newest.damaged) resumed.damaged.push_back(step);
  return resumed;
}

}  // namespace

ResumedRun find_checkpoint(Communicator& ranks, const CheckpointRunOptions& options, Copies copies,
                           const SupervisedRun& supervised) {
  check_agreement(ranks, {{"checkpoints", describe(options)}});
  const bool restarted = !told_by_rank_0(ranks, [] { return std::string(is_restarted_job() ? "yes" : ""); }).empty();
  if (options.resume == "auto" || (options.resume.empty() && restarted && !options.folder.empty()))
    return find_newest(ranks, options.folder, copies, supervised.snapshots());
  if (supervised.life() > 1) {
    // Where it has written nothing yet, this life begins as the first one did.
    ResumedRun resumed = find_newest(ranks, options.folder, copies, supervised.snapshots());
    if (resumed.checkpoint || options.resume.empty()) return resumed;
  }
  ResumedRun resumed;
  if (!options.resume.empty()) {
    std::string complaint;
    resumed.checkpoint = load_checkpoint(ranks, options.resume, copies, complaint);
    check(resumed.checkpoint.has_value(), ErrorCode::data, [&] { return "--resume: " + complaint; });
  }
  if (options.folder.empty()) return resumed;
  const bool in_place = !options.resume.empty() && is_same_folder(folder_around(options.resume), options.folder);
  check_nothing_newer(ranks, options.folder, in_place ? resumed.first_step() : -1, !in_place);
  return resumed;
}

RunCheckpoints::RunCheckpoints(Communicator& ranks, const VariableStore& variables, Device device,
                               const CheckpointRunOptions& options, const ResumedRun& resumed,
                               FileOperations::Before before_operation)
    : options_(options),
      first_(ranks.rank() == 0),
      bytes_(double(variables.memory().parameter_bytes() + variables.memory().slot_bytes())),
      writer_(ranks, variables, device,
              {.folder = options.folder, .keep = options.keep, .before_operation = std::move(before_operation)}) {
  if (resumed.checkpoint && is_same_folder(folder_around(resumed.checkpoint->path), options.folder))
    first_step_ = resumed.first_step();
  if (!first_) return;
  const FileOperations files;
  for (const int64_t step : resumed.damaged) {
    const std::string path = path_of(step), aside = path + std::string(kDamagedSuffix);
    files.remove_folder(aside);
    files.rename(path, aside);
    print_remark(fmt::format("lockstep: warning: '{}' is called '{}' from now on\n", path, aside));
  }
}

double RunCheckpoints::expected_seconds() const {
  constexpr double kSlowDisk = 200e6;  // bytes a second
  return writer_.seconds() > 0 ? writer_.seconds() : bytes_ / kSlowDisk;
}

void RunCheckpoints::begin(const RunState& state, std::function<void()> before_commit) {
  writer_.begin(state, std::move(before_commit));
  listen(false);
}

void RunCheckpoints::hear(std::span<const int> news) {
  std::vector<CheckpointWriter::News> all;
  for (const int each : news) all.push_back(CheckpointWriter::News(each));
  writer_.hear(all);
  listen(false);
}

void RunCheckpoints::finish() {
  writer_.finish();
  listen(false);
}

void RunCheckpoints::save(const RunState& state, std::function<void()> before_commit) {
  finish();
  if (last_step() == state.step) return;
  writer_.begin(state, std::move(before_commit));
  writer_.finish();
  listen(last_step() != state.step);
}

// One warning stands for all that follow it until a checkpoint has been written.
void RunCheckpoints::listen(bool must_not_fail) {
  const std::string complaint = writer_.take_complaint();
  if (complaint.empty()) return;
  check(!must_not_fail && options_.errors == CheckpointErrors::warn, ErrorCode::file, complaint);
  if (first_ && !warned_)
    print_remark(fmt::format("lockstep: warning: {}; training goes on{}\n", complaint,
                             last_step() < 0 ? "" : fmt::format(", the last checkpoint is of step {}", last_step())));
  warned_ = true;
}

}  // namespace lockstep
