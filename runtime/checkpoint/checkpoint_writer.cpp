// SPDX-License-Identifier: Apache-2.0
#include "runtime/checkpoint/checkpoint_writer.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <exception>
#include <filesystem>
#include <utility>
#include <vector>

#include "kernels/device/start_thread.h"

namespace lockstep {
namespace {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Rank 0 does it, and all learn how that went.
template <class Work>
void on_rank_0(Communicator& ranks, const Work& work) {
  std::string error;
  if (ranks.rank() == 0) {
    try {
      work();
    } catch (const std::exception& caught) {
      error = caught.what();
    }
  }
  error = ranks.all_gather_bytes(error)[0];
  check(error.empty(), ErrorCode::file, error);
}

void make_folders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail_file("make the folder", path, error.value());
}

}  // namespace

CheckpointWriter::CheckpointWriter(Communicator& ranks, const VariableStore& variables, Device device,
                                   CheckpointOptions options)
    : ranks_(ranks.split(0, ranks.rank())),
      options_(std::move(options)),
      files_([this](std::string_view operation, const std::string& path) {
        if (cancelled_) return ECANCELED;
        return options_.before_operation ? options_.before_operation(operation, path) : 0;
      }),
      snapshot_(variables, device, ranks.node_of(), ranks.rank()),
      variables_(variables) {
  check(options_.keep.newest >= 2, ErrorCode::usage, [&] {
    return str("expected at least 2 checkpoints to be kept, got ", options_.keep.newest,
               ": the one before is what a run goes on from when the newest is damaged");
  });
  on_rank_0(*ranks_, [&] {
    make_folders(options_.folder);
    lock_.emplace(options_.folder);
    remove_leftovers(FileOperations(), options_.folder);
  });
}

CheckpointWriter::~CheckpointWriter() {
  cancelled_ = true;
  if (thread_.joinable()) thread_.join();
}

std::string CheckpointWriter::partial_folder() const {
  return in_folder(options_.folder, checkpoint_name(state_.step) + std::string(kPartialSuffix));
}

void CheckpointWriter::begin(const RunState& state, std::function<void()> before_commit) {
  finish();
  begun_ = seconds_now();
  state_ = state;
  before_commit_ = std::move(before_commit);
  optimizer_ = optimizer_position(variables_);
  snapshot_.take();
  stage_ = Stage::writing;
  start([this] { write_own_shard(); });
}

// The thread's work ends with an outcome, whatever happens in it.
void CheckpointWriter::start(std::function<void()> work) {
  join();
  outcome_ = News::none;
  error_.clear();
  thread_ = start_thread("writing a checkpoint", [this, work = std::move(work)] {
    News outcome = News::done;
    try {
      work();
    } catch (const std::exception& error) {
      error_ = error.what();
      outcome = News::failed;
    }
    outcome_ = outcome;
  });
}

void CheckpointWriter::join() {
  if (thread_.joinable()) thread_.join();
}

void CheckpointWriter::write_own_shard() {
  const std::string folder = partial_folder();
  files_.make_folder(folder);
  write_shard(files_, in_folder(folder, shard_name(ranks_->rank())), {state_.step, ranks_->rank(), ranks_->size()},
              snapshot_);
  files_.sync_folder(folder);
}

// A rank other than 0 has nothing to do while rank 0 commits.
CheckpointWriter::News CheckpointWriter::news() const {
  if (stage_ == Stage::committing && ranks_->rank() != 0) return News::done;
  return outcome_;
}

void CheckpointWriter::hear(std::span<const News> news) {
  if (stage_ == Stage::idle || std::ranges::find(news, News::none) != news.end()) return;
  if (std::ranges::find(news, News::failed) != news.end()) return give_up();
  if (stage_ == Stage::writing) {
    stage_ = Stage::committing;
    if (ranks_->rank() == 0) start([this] { commit(); });
    return;
  }
  join();
  stage_ = Stage::idle;
  last_step_ = state_.step;
  seconds_ = std::max(seconds_, seconds_now() - begun_);
  // What was not possible beside the checkpoint.
  const std::string complaint = ranks_->all_gather_bytes(ranks_->rank() == 0 ? error_ : std::string())[0];
  if (!complaint.empty()) complaint_ = complaint;
}

void CheckpointWriter::give_up() {
  join();
  stage_ = Stage::idle;
  const std::vector<std::string> errors = ranks_->all_gather_bytes(error_);
  const auto first = std::ranges::find_if(errors, [](const std::string& error) { return !error.empty(); });
  complaint_ = str("the checkpoint of step ", state_.step,
                   " was given up: ", ranks_->describe(int(first - errors.begin())), " ", *first);
  if (ranks_->rank() != 0) return;
  try {
    FileOperations().remove_folder(partial_folder());
  } catch (const Error&) {
    // The next run removes it.
  }
}

void CheckpointWriter::finish() {
  while (stage_ != Stage::idle) {
    join();
    const News mine = news();
    const std::vector<std::string> texts = ranks_->all_gather_bytes(std::string(1, char('0' + int(mine))));
    std::vector<News> all;
    for (const std::string& text : texts) all.push_back(News(text[0] - '0'));
    hear(all);
  }
}

CheckpointManifest CheckpointWriter::assemble() const {
  const Plan& plan = variables_.plan();
  CheckpointManifest manifest{.run = state_,
                              .optimizer = optimizer_,
                              .plan_hash = plan.hash(),
                              .mesh = plan.settings.mesh,
                              .nodes = ranks_->place().nodes,
                              .virtual_ranks = plan.settings.virtual_ranks,
                              .files = {},
                              .tensors = manifest_tensors(plan)};
  add_shards(manifest, partial_folder(), ranks_->size());
  return manifest;
}

void CheckpointWriter::commit() {
  const std::string folder = partial_folder(), path = in_folder(folder, kManifestName);
  const std::string text = manifest_to_text(assemble());
  manifest_from_text(text, "'" + path + "'");  // nothing is written that would be refused
  if (before_commit_) before_commit_();
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  files_.write_new_file(path, {&bytes, 1});
  files_.sync_folder(folder);
  files_.rename(folder, in_folder(options_.folder, checkpoint_name(state_.step)));
  // From here on the checkpoint is there, whatever happens.
  try {
    tidy();
  } catch (const Error& error) {
    if (cancelled_) return;
    error_ = str("the checkpoint of step ", state_.step, " is written, but ", error.what());
  }
}

void CheckpointWriter::tidy() {
  files_.sync_folder(options_.folder);
  files_.replace_link(checkpoint_name(state_.step), in_folder(options_.folder, "latest"));
  for (const int64_t step : steps_to_remove(list_checkpoints(options_.folder), options_.keep))
    remove_checkpoint(files_, options_.folder, step);
  files_.sync_folder(options_.folder);
}

}  // namespace lockstep
