// SPDX-License-Identifier: Apache-2.0
// The manifest of a checkpoint: what its files hold, and where the run was that wrote them. It is one JSON text, equal
// for equal content, with a hash of itself at its end, and it is read as hostile input.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "collectives/mesh_axis.h"
#include "runtime/files/line_file.h"
#include "runtime/variables/variables.h"

namespace lockstep {

inline constexpr std::string_view kManifestName = "manifest.json";
inline constexpr int64_t kLongestManifest = int64_t(256) << 20;

// Where a run is in its data: it goes on with batch `step_in_epoch` of epoch `epoch`.
struct DataPosition {
  int64_t epoch = 0, step_in_epoch = 0;
  int64_t batch = 0;    // samples of a step
  int64_t samples = 0;  // of an epoch
  friend bool operator==(const DataPosition&, const DataPosition&) = default;
};

// What a run was, besides its variables, when it had taken `step` steps. Random numbers are keyed by seed, step, sample
// and element, and the rate of a schedule by the counter of committed steps, so nothing else has to be kept of them.
struct RunState {
  int64_t step = 0;
  // What decides the numbers, by name ("batch": "128"): all of it has to be the same for a run to go on as it would.
  std::map<std::string, std::string> configuration = {};
  DataPosition position = {};
  // Whether the model was judged after this step, where it is to be.
  bool scored = true;
  // The run's files at this step, where it writes them.
  std::optional<LinePosition> ledger = {}, metrics = {};
  friend bool operator==(const RunState&, const RunState&) = default;
};

// Elements [offset, offset + size) of a tensor, counted row by row; in the file they are a tensor of the same name.
struct ManifestChunk {
  int32_t file = 0;  // index into CheckpointManifest::files
  int64_t offset = 0, size = 0;
  uint64_t xxh3 = 0;  // of their bytes
  friend bool operator==(const ManifestChunk&, const ManifestChunk&) = default;
};

struct ManifestTensor {
  std::string path;
  Role role = Role::parameter;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  std::vector<ManifestChunk> chunks;  // by offset; together they are the tensor
  int64_t elements() const;
  friend bool operator==(const ManifestTensor&, const ManifestTensor&) = default;
};

struct ManifestFile {
  std::string name;
  int64_t bytes = 0;
  friend bool operator==(const ManifestFile&, const ManifestFile&) = default;
};

// What people want to know of the optimizer; what counts is in the tensors.
struct OptimizerPosition {
  int64_t iteration = 0;      // committed steps, where the schedule is
  std::string learning_rate;  // exact
  std::string loss_scale;     // exact; empty: none
  friend bool operator==(const OptimizerPosition&, const OptimizerPosition&) = default;
};

struct CheckpointManifest {
  RunState run;
  OptimizerPosition optimizer;
  // Of the run that wrote it; another one may have others.
  uint64_t plan_hash = 0;
  std::vector<MeshAxis> mesh;
  int64_t nodes = 1;
  int64_t virtual_ranks = 1;

  std::vector<ManifestFile> files;
  std::vector<ManifestTensor> tensors;  // by path
  int64_t bytes() const;                // of all files
  friend bool operator==(const CheckpointManifest&, const CheckpointManifest&) = default;
};

std::string manifest_to_text(const CheckpointManifest& manifest);

// Throws Error(data) that begins with `where` for a text that manifest_to_text() cannot have written: chunks that leave
// a hole or overlap, names that lead out of the folder, numbers out of bounds, a hash of another text.
CheckpointManifest manifest_from_text(std::string_view text, const std::string& where);

// "shard_00003.safetensors"
std::string shard_name(int rank);
std::string hash_digits(uint64_t hash);  // 16 of them, hexadecimal

}  // namespace lockstep
