// SPDX-License-Identifier: Apache-2.0
// Writes checkpoints beside training. Every rank copies what it owns at memory speed and writes it in a thread of its
// own; when all have told each other that theirs is on disk, rank 0 adds the manifest and gives the folder its name. A
// checkpoint is there whole or not at all, whatever rank is killed at whatever moment:
//
//   all ranks   step_N.partial/shard_R.safetensors, written and synced, and the folder synced
//   (all ranks know that all shards are there)
//   rank 0      ledger and metrics synced; manifest.json written and synced; the folder synced
//   rank 0      step_N.partial renamed to step_N, the folder around synced
//   rank 0      latest replaced, checkpoints that the rules do not keep removed
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>

#include "collectives/communicator.h"
#include "runtime/checkpoint/checkpoint_folder.h"
#include "runtime/checkpoint/shard.h"

namespace lockstep {

struct CheckpointOptions {
  std::string folder;
  KeepRules keep = {};
  FileOperations::Before before_operation = {};
};

class CheckpointWriter {
 public:
  // Collective over the ranks of the batch axis. `variables` outlives the writer. Rank 0 makes the folder, takes its
  // lock and removes what killed runs have left. Error(file) on all ranks where that is not possible.
  CheckpointWriter(Communicator& ranks, const VariableStore& variables, Device device, CheckpointOptions options);
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;
  // Gives up what is being written.
  ~CheckpointWriter();

  // Collective, between two steps: copies the state, and has it written beside what follows. It waits only for the
  // checkpoint before, if that is still being written. What counts is rank 0's `state`, whose step all ranks have
  // alike; rank 0 calls `before_commit`, on another thread, when all shards are on disk.
  void begin(const RunState& state, std::function<void()> before_commit = {});

  // What this rank has to tell the others about the checkpoint that is being written.
  enum class News : int { none = 0, done = 1, failed = 2 };
  News news() const;
  // Collective: what every rank has told, in rank order, by whatever exchange brings it. Moves the checkpoint on when
  // all are done, or gives it up when one has failed.
  void hear(std::span<const News> news);
  // Collective: waits until the checkpoint that is being written, if there is one, is there or given up.
  void finish();

  // All that follows is equal on all ranks.
  bool is_writing() const { return stage_ != Stage::idle; }
  // The step of the last checkpoint that is whole, -1 for none since the start.
  int64_t last_step() const { return last_step_; }
  // The longest that one has taken, from copy to name, in seconds; 0 as long as there is none.
  double seconds() const { return seconds_; }
  // Says, once, why a checkpoint was given up, or what was not possible beside it. Empty: all is well.
  std::string take_complaint() { return std::exchange(complaint_, std::string()); }

 private:
  enum class Stage { idle, writing, committing };

  void start(std::function<void()> work);
  void join();
  void give_up();
  void write_own_shard();
  void commit();
  void tidy();
  CheckpointManifest assemble() const;
  std::string partial_folder() const;

  std::unique_ptr<Communicator> ranks_;
  CheckpointOptions options_;
  FileOperations files_;
  StateSnapshot snapshot_;
  std::optional<FolderLock> lock_;  // rank 0's
  RunState state_;
  OptimizerPosition optimizer_;
  const VariableStore& variables_;
  std::function<void()> before_commit_;

  Stage stage_ = Stage::idle;
  int64_t last_step_ = -1;
  double begun_ = 0, seconds_ = 0;
  std::string complaint_;

  std::atomic<News> outcome_{News::none};  // of the thread's work; what follows is the thread's until then
  std::string error_;
  std::atomic<bool> cancelled_{false};
  std::thread thread_;
};

}  // namespace lockstep
