// SPDX-License-Identifier: Apache-2.0
// One rank's share of a checkpoint: the elements that it owns, copied at memory speed, and the safetensors file that
// they become. A shard says itself which elements of a variable it has, and their hash, so that the manifest can be put
// together from the files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/device/transfer.h"
#include "runtime/checkpoint/file_operations.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/state_chunks.h"
#include "runtime/files/safetensors.h"
#include "runtime/state/variable_store.h"

namespace lockstep {

// A copy of what a rank owns, in memory of the host.
class StateSnapshot {
 public:
  // `variables` must outlive it. `node_of` and `rank` are those of the batch axis.
  StateSnapshot(const VariableStore& variables, Device device, std::span<const int> node_of, int rank);

  // Copies the values of now; memory is kept for the next time. Waits for a GPU.
  void take();

  const Plan& plan() const { return variables_.plan(); }
  const std::vector<StateChunk>& chunks() const { return chunks_; }
  std::span<const std::byte> bytes(size_t chunk) const;

 private:
  const VariableStore& variables_;
  Device device_;
  std::vector<StateChunk> chunks_;
  std::vector<int64_t> offsets_;  // of each chunk, and behind the last
  PinnedBuffer memory_;
};

// Which shard of which checkpoint.
struct ShardPlace {
  int64_t step = 0;
  int rank = 0, ranks = 1;
};

// Writes a new, durable file of what the snapshot holds. Throws Error(file).
void write_shard(const FileOperations& files, const std::string& path, const ShardPlace& place,
                 const StateSnapshot& snapshot);

// The same into a file that may be there with older content, without waiting for a disk: a file that is half one and
// half the other has not the hashes that it says. Throws Error(file).
void rewrite_shard(const std::string& path, const ShardPlace& place, const StateSnapshot& snapshot);

// What one shard holds.
struct ShardChunk {
  std::string path;
  DType dtype = DType::f32;
  int64_t offset = 0, size = 0;
  uint64_t xxh3 = 0;
};
// Throws Error(data) for a file that write_shard() cannot have written for this place.
std::vector<ShardChunk> read_shard_chunks(const SafetensorsFile& file, const ShardPlace& place);

// Puts into `manifest`, whose tensors have no chunks yet, what the shards of its step in `folder` hold, which `ranks`
// have written. Throws Error(file, data).
void add_shards(CheckpointManifest& manifest, const std::string& folder, int ranks);

// The tensors that a checkpoint of this plan has, by path, without chunks.
std::vector<ManifestTensor> manifest_tensors(const Plan& plan);
// Of the variables as they are.
OptimizerPosition optimizer_position(const VariableStore& variables);

uint64_t hash_bytes(std::span<const std::byte> bytes);  // XXH3

}  // namespace lockstep
