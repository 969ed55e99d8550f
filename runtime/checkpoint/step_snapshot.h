// SPDX-License-Identifier: Apache-2.0
// Snapshots: the state after a step, in a folder in the memory of the machine that outlives the processes of the run.
// Two places are written in turn, so that one of them is whole at any moment: a rank begins to write a step only when
// all ranks have written the one before, because the exchange of a step lies between them.
//
//   variables.json                     what there is, alike in all steps: a manifest without run and chunks
//   even/state.json                    where the run was: a manifest without tensors, sealed by its hash
//   even/shard_00000.safetensors ...   as in checkpoints, each chunk sealed by its hash
//   odd/...
//
// Nothing is synced and nothing renamed. A place that is half written has other hashes than it says.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "runtime/checkpoint/shard.h"

namespace lockstep {

class StepSnapshot {
 public:
  // Collective over the ranks of the batch axis, which all see `folder`; `variables` outlives it. Reserves the memory
  // that snapshots take, and leaves what is there as it is. Error(file) on all ranks where that is not possible.
  StepSnapshot(Communicator& ranks, const VariableStore& variables, Device device, std::string folder, int64_t every);

  bool is_due(int64_t step) const { return step % every_ == 0; }
  // Called by all ranks between two steps; no rank waits for another. What counts of `state` is rank 0's. Error(file).
  void take(const RunState& state);

 private:
  std::string place_of(int64_t step) const;
  void prepare();

  int rank_, ranks_;
  int64_t nodes_;
  const VariableStore& variables_;
  std::string folder_;
  int64_t every_;
  StateSnapshot copy_;
};

// The places of a folder of snapshots that may hold one, with the step that they say they are of. Only that is read:
// whether the rest can be believed shows when it is put together, once, for the place that a run goes on from.
struct SnapshotPlace {
  int64_t step = 0;
  std::string path;
};
std::vector<SnapshotPlace> find_snapshots(const std::string& folder);
// The manifest of the checkpoint that a place is, put together from what lies there. Error(file, data).
std::string snapshot_manifest_text(const std::string& path);

}  // namespace lockstep
