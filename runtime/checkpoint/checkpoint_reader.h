// SPDX-License-Identifier: Apache-2.0
// Reads checkpoints and trusts nothing in them: a chunk is taken when its file is as long as the manifest says, says
// itself what the manifest says of it, and its bytes have the hash that both have.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "collectives/communicator.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/files/safetensors.h"
#include "runtime/plan/plan_settings.h"
#include "runtime/state/variable_store.h"

namespace lockstep {

// An open checkpoint.
class CheckpointReader {
 public:
  // `path` is the folder of the checkpoint. Error(file, data) names what cannot be read or believed.
  explicit CheckpointReader(std::string path);
  // The same with a manifest that was read elsewhere.
  CheckpointReader(std::string path, std::string_view manifest);

  const std::string& path() const { return path_; }
  const CheckpointManifest& manifest() const { return manifest_; }

  // The bytes of a chunk of tensor `tensor`, whose hash was found right.
  std::vector<std::byte> read(size_t tensor, const ManifestChunk& chunk);
  // A whole tensor.
  std::vector<std::byte> read(size_t tensor);
  // Reads everything.
  void verify();

 private:
  const SafetensorsFile& file(int32_t number);
  void check_shard(const SafetensorsFile& shard, int32_t number) const;

  std::string path_;
  CheckpointManifest manifest_;
  std::map<int32_t, SafetensorsFile> open_;
};

// The manifest's text. Error(file).
std::string read_manifest_text(const std::string& path);

// A checkpoint in memory, read and verified: of each rank those chunks that it gives to the variables.
struct LoadedCheckpoint {
  struct Piece {
    size_t tensor = 0;
    int64_t offset = 0;
    std::vector<std::byte> bytes;
  };
  std::string path;
  CheckpointManifest manifest;
  std::vector<Piece> pieces;
};

// Collective. Ranks of a node share the reading where they share the memory that it goes into, by `copies`. Every rank
// gets the checkpoint, or none does; `complaint` then says why not, alike on all.
std::optional<LoadedCheckpoint> load_checkpoint(Communicator& ranks, const std::string& path, Copies copies,
                                                std::string& complaint);

// The newest checkpoint of a folder that can be read.
struct NewestCheckpoint {
  std::optional<LoadedCheckpoint> loaded;
  bool is_snapshot = false;
  // Newer ones that cannot, with their steps and what is wrong with them.
  std::vector<std::pair<int64_t, std::string>> damaged;
};
// Collective; the same on all ranks. A snapshot in the folder `snapshots` (runtime/checkpoint/step_snapshot.h) of a
// newer step serves as well. Either folder may be empty: there is none. Error(file) where the folder cannot be listed.
NewestCheckpoint load_newest_checkpoint(Communicator& ranks, const std::string& folder, Copies copies,
                                        const std::string& snapshots = "");

// Collective, before the first step: all variables become what the checkpoint says. Error(data) names what it lacks,
// has in addition, or has with another shape or dtype.
void restore_variables(VariableStore& variables, Communicator& ranks, const LoadedCheckpoint& checkpoint);

}  // namespace lockstep
