// SPDX-License-Identifier: Apache-2.0
#include "runtime/checkpoint/step_snapshot.h"

#include <fcntl.h>

#include <cerrno>
#include <exception>
#include <utility>

#include "runtime/checkpoint/checkpoint_folder.h"

namespace lockstep {
namespace {

constexpr const char* kPlaces[] = {"even", "odd"};
constexpr const char* kStateName = "state.json";
constexpr const char* kVariablesName = "variables.json";

void rewrite_text(const std::string& path, const std::string& text) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  rewrite_file(path, {&bytes, 1});
}

CheckpointManifest read_part(const std::string& path) {
  (void)open_to_read(path, Links::refuse);
  return manifest_from_text(read_text(path, kLongestManifest, "a manifest"), "'" + path + "'");
}

// Without it a write may find the memory of the machine used up, which no file system tells beforehand.
void reserve(const std::string& path, int64_t bytes) {
  const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.is_open()) fail_file("open", path, errno);
  if (::fallocate(file.number(), FALLOC_FL_KEEP_SIZE, 0, off_t(bytes)) != 0 && errno != EOPNOTSUPP)
    fail_file("reserve memory for", path, errno);
}

// Chunks as a manifest has to have them, where the true ones are not known yet.
void put_whole_chunks(std::vector<ManifestTensor>& tensors) {
  for (ManifestTensor& tensor : tensors)
    if (tensor.elements() > 0) tensor.chunks = {{0, 0, tensor.elements(), 0}};
}

}  // namespace

StepSnapshot::StepSnapshot(Communicator& ranks, const VariableStore& variables, Device device, std::string folder,
                           int64_t every)
    : rank_(ranks.rank()),
      ranks_(ranks.size()),
      nodes_(ranks.place().nodes),
      variables_(variables),
      folder_(std::move(folder)),
      every_(every),
      copy_(variables, device, ranks.node_of(), ranks.rank()) {
  std::string error;
  try {
    prepare();
  } catch (const Error& caught) {
    error = caught.what();
  }
  for (const std::string& each : ranks.all_gather_bytes(error)) check(each.empty(), ErrorCode::file, each);
}

void StepSnapshot::prepare() {
  const FileOperations files;
  // The head of a shard, which has some hundred bytes for each variable, comes on top.
  constexpr int64_t kHead = int64_t(1) << 20;
  int64_t bytes = kHead;
  for (size_t c = 0; c < copy_.chunks().size(); ++c)
    bytes += copy_.chunks()[c].elements() * size_of(copy_.plan().variables[size_t(copy_.chunks()[c].variable)].dtype);
  for (const char* place : kPlaces) {
    const std::string path = in_folder(folder_, place);
    files.make_folder(path);
    reserve(in_folder(path, shard_name(rank_)), bytes);
  }
  if (rank_ != 0) return;
  CheckpointManifest manifest{.run = {.position = {.batch = 1, .samples = 1}},
                              .optimizer = {},
                              .mesh = {},
                              .files = {{shard_name(0), 0}},
                              .tensors = manifest_tensors(variables_.plan())};
  put_whole_chunks(manifest.tensors);
  // Whoever reads it finds the one before or this one, which say the same.
  const std::string path = in_folder(folder_, kVariablesName), beside = path + std::string(kPartialSuffix);
  rewrite_text(beside, manifest_to_text(manifest));
  files.rename(beside, path);
}

std::string StepSnapshot::place_of(int64_t step) const { return in_folder(folder_, kPlaces[step / every_ % 2]); }

void StepSnapshot::take(const RunState& state) {
  copy_.take();
  const std::string path = place_of(state.step);
  rewrite_shard(in_folder(path, shard_name(rank_)), {state.step, rank_, ranks_}, copy_);
  if (rank_ != 0) return;
  const Plan& plan = variables_.plan();
  CheckpointManifest manifest{.run = state,
                              .optimizer = optimizer_position(variables_),
                              .plan_hash = plan.hash(),
                              .mesh = plan.settings.mesh,
                              .nodes = nodes_,
                              .virtual_ranks = plan.settings.virtual_ranks,
                              .files = {},
                              .tensors = {}};
  for (int rank = 0; rank < ranks_; ++rank) manifest.files.push_back({shard_name(rank), 0});
  rewrite_text(in_folder(path, kStateName), manifest_to_text(manifest));
}

std::vector<SnapshotPlace> find_snapshots(const std::string& folder) {
  std::vector<SnapshotPlace> found;
  for (const char* place : kPlaces) {
    const std::string path = in_folder(folder, place);
    try {
      found.push_back({read_part(in_folder(path, kStateName)).run.step, path});
    } catch (const Error&) {
      // It was being written when the run ended, or never.
    }
  }
  return found;
}

std::string snapshot_manifest_text(const std::string& path) {
  CheckpointManifest manifest = read_part(in_folder(path, kStateName));
  manifest.tensors = read_part(in_folder(folder_around(path), kVariablesName)).tensors;
  for (ManifestTensor& tensor : manifest.tensors) tensor.chunks.clear();
  const int ranks = int(manifest.files.size());
  add_shards(manifest, path, ranks);
  return manifest_to_text(manifest);
}

}  // namespace lockstep
