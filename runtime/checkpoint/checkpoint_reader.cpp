// SPDX-License-Identifier: Apache-2.0
#include "runtime/checkpoint/checkpoint_reader.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <functional>
#include <sstream>
#include <string_view>
#include <unordered_map>

#include "runtime/checkpoint/checkpoint_folder.h"
#include "runtime/checkpoint/shard.h"
#include "runtime/checkpoint/step_snapshot.h"
#include "runtime/state/stored_variables.h"

namespace lockstep {
namespace {

std::string quoted(const std::string& path) { return "'" + path + "'"; }

// The errors of all ranks as one text, equal on all; empty when there are none.
std::string errors_of(Communicator& ranks, const std::string& mine) {
  const std::vector<std::string> errors = ranks.all_gather_bytes(mine);
  for (int rank = 0; rank < ranks.size(); ++rank)
    if (!errors[size_t(rank)].empty()) return errors[size_t(rank)];
  return "";
}

template <class Work>
std::string error_of_work(const Work& work) {
  try {
    work();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

// Calls visit(tensor, chunk) for the chunks that this rank reads: about equal numbers of bytes of what ranks share, and
// all that each has for itself.
template <class Visit>
void for_each_own_chunk(const CheckpointManifest& manifest, const Place& place, Copies copies, const Visit& visit) {
  const auto shared = [&](const ManifestTensor& tensor) {
    return copies == Copies::per_node && !is_bookkeeping(tensor.role);
  };
  int64_t all = 0, before = 0;
  for (const ManifestTensor& tensor : manifest.tensors)
    if (shared(tensor)) all += tensor.elements() * size_of(tensor.dtype);
  for (size_t t = 0; t < manifest.tensors.size(); ++t) {
    const ManifestTensor& tensor = manifest.tensors[t];
    for (const ManifestChunk& chunk : tensor.chunks) {
      if (!shared(tensor)) {
        visit(t, chunk);
        continue;
      }
      const double reader = double(before) / double(all) * place.local_size;
      if (std::min(int(reader), place.local_size - 1) == place.local_rank) visit(t, chunk);
      before += chunk.size * size_of(tensor.dtype);
    }
  }
}

// `read_manifest` is called on rank 0 alone, so that all have the same.
std::optional<LoadedCheckpoint> load_checked(Communicator& ranks, const std::string& path,
                                             const std::function<std::string()>& read_manifest, Copies copies,
                                             std::string& complaint) {
  std::string text;
  complaint = errors_of(ranks, error_of_work([&] {
                          if (ranks.rank() == 0) text = read_manifest();
                        }));
  if (!complaint.empty()) return std::nullopt;
  text = ranks.all_gather_bytes(text)[0];
  LoadedCheckpoint loaded{.path = path, .manifest = {}, .pieces = {}};
  complaint = errors_of(ranks, error_of_work([&] {
                          CheckpointReader reader(path, text);
                          for_each_own_chunk(
                              reader.manifest(), ranks.place(), copies, [&](size_t tensor, const ManifestChunk& chunk) {
                                loaded.pieces.push_back({tensor, chunk.offset, reader.read(tensor, chunk)});
                              });
                          loaded.manifest = reader.manifest();
                        }));
  if (!complaint.empty()) return std::nullopt;
  return loaded;
}

struct FoundCheckpoint {
  int64_t step = 0;
  bool is_snapshot = false;
  std::string path;
};

// Newest first, of one step the checkpoint.
std::vector<FoundCheckpoint> find_checkpoints(const std::string& folder, const std::string& snapshots) {
  std::vector<FoundCheckpoint> found;
  if (!folder.empty())
    for (const int64_t step : list_checkpoints(folder))
      found.push_back({step, false, in_folder(folder, checkpoint_name(step))});
  if (!snapshots.empty())
    for (const SnapshotPlace& place : find_snapshots(snapshots)) found.push_back({place.step, true, place.path});
  std::ranges::stable_sort(found, std::greater(), &FoundCheckpoint::step);
  return found;
}

std::vector<FoundCheckpoint> told_by_rank_0(Communicator& ranks, const std::vector<FoundCheckpoint>& mine) {
  std::string text;
  for (const FoundCheckpoint& each : mine) text += str(each.step, " ", each.is_snapshot, " ", each.path, '\0');
  std::istringstream lines(ranks.all_gather_bytes(text)[0]);
  std::vector<FoundCheckpoint> all;
  for (FoundCheckpoint each;
       lines >> each.step >> each.is_snapshot && lines.get() && std::getline(lines, each.path, '\0');)
    all.push_back(each);
  return all;
}

}  // namespace

std::string read_manifest_text(const std::string& path) {
  const std::string file = in_folder(path, kManifestName);
  (void)open_to_read(file, Links::refuse);
  return read_text(file, kLongestManifest, "a manifest");
}

CheckpointReader::CheckpointReader(std::string path) : CheckpointReader(path, read_manifest_text(path)) {}

CheckpointReader::CheckpointReader(std::string path, std::string_view manifest)
    : path_(std::move(path)), manifest_(manifest_from_text(manifest, quoted(in_folder(path_, kManifestName)))) {}

const SafetensorsFile& CheckpointReader::file(int32_t number) {
  const auto found = open_.find(number);
  if (found != open_.end()) return found->second;
  SafetensorsFile shard(in_folder(path_, manifest_.files[size_t(number)].name));
  check_shard(shard, number);
  return open_.emplace(number, std::move(shard)).first->second;
}

void CheckpointReader::check_shard(const SafetensorsFile& shard, int32_t number) const {
  const ManifestFile& expected = manifest_.files[size_t(number)];
  check(shard.bytes() == expected.bytes, ErrorCode::data, [&] {
    return str(quoted(shard.path()), " has ", shard.bytes(), " bytes, expected ", expected.bytes, " by the manifest");
  });
  std::vector<ShardChunk> held = read_shard_chunks(shard, {manifest_.run.step, number, int(manifest_.files.size())});
  size_t next = 0;  // both are sorted by path
  const auto refuse = [&](const std::string& path) {
    fail(ErrorCode::data,
         str(quoted(shard.path()), " and the manifest differ about ", path, "; one of them is damaged"));
  };
  for (const ManifestTensor& tensor : manifest_.tensors)
    for (const ManifestChunk& chunk : tensor.chunks) {
      if (chunk.file != number) continue;
      if (next == held.size()) refuse(tensor.path);
      const ShardChunk& there = held[next++];
      if (there.path != tensor.path || there.dtype != tensor.dtype || there.offset != chunk.offset ||
          there.size != chunk.size || there.xxh3 != chunk.xxh3)
        refuse(tensor.path);
    }
  if (next != held.size()) refuse(held[next].path);
}

std::vector<std::byte> CheckpointReader::read(size_t number, const ManifestChunk& chunk) {
  const ManifestTensor& tensor = manifest_.tensors[number];
  const SafetensorsFile& shard = file(chunk.file);  // which has found out that it holds so many bytes
  std::vector<std::byte> bytes(size_t(chunk.size * size_of(tensor.dtype)));
  shard.read(tensor.path, bytes);
  const uint64_t hash = hash_bytes(bytes);
  check(hash == chunk.xxh3, ErrorCode::data, [&] {
    return str(quoted(shard.path()), ": elements ", chunk.offset, " to ", chunk.offset + chunk.size - 1, " of ",
               tensor.path, " have the hash ", hash_digits(hash), ", expected ", hash_digits(chunk.xxh3),
               "; the file is damaged");
  });
  return bytes;
}

std::vector<std::byte> CheckpointReader::read(size_t number) {
  std::vector<std::byte> all;
  for (const ManifestChunk& chunk : manifest_.tensors[number].chunks) {
    const std::vector<std::byte> bytes = read(number, chunk);
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  return all;
}

void CheckpointReader::verify() {
  for (int32_t number = 0; number < int32_t(manifest_.files.size()); ++number) file(number);
  for (size_t t = 0; t < manifest_.tensors.size(); ++t)
    for (const ManifestChunk& chunk : manifest_.tensors[t].chunks) read(t, chunk);
}

std::optional<LoadedCheckpoint> load_checkpoint(Communicator& ranks, const std::string& path, Copies copies,
                                                std::string& complaint) {
  return load_checked(
      ranks, path, [&] { return read_manifest_text(path); }, copies, complaint);
}

NewestCheckpoint load_newest_checkpoint(Communicator& ranks, const std::string& folder, Copies copies,
                                        const std::string& snapshots) {
  std::vector<FoundCheckpoint> mine;
  const std::string error = errors_of(ranks, error_of_work([&] {
                                        if (ranks.rank() == 0) mine = find_checkpoints(folder, snapshots);
                                      }));
  check(error.empty(), ErrorCode::file, error);
  NewestCheckpoint newest;
  for (const FoundCheckpoint& each : told_by_rank_0(ranks, mine)) {
    std::string complaint;
    newest.loaded = load_checked(
        ranks, each.path,
        [&] { return each.is_snapshot ? snapshot_manifest_text(each.path) : read_manifest_text(each.path); }, copies,
        complaint);
    newest.is_snapshot = each.is_snapshot;
    if (newest.loaded) break;
    // One snapshot of two may be half written when a run is killed.
    if (!each.is_snapshot) newest.damaged.emplace_back(each.step, complaint);
  }
  return newest;
}

void restore_variables(VariableStore& variables, Communicator& ranks, const LoadedCheckpoint& checkpoint) {
  const Plan& plan = variables.plan();
  const std::vector<ManifestTensor>& tensors = checkpoint.manifest.tensors;
  std::vector<ExpectedTensor> expected;
  for (const PlannedVariable& variable : plan.variables)
    expected.push_back({variable.path, variable.dtype, variable.shape});
  std::vector<StoredTensor> stored;
  for (const ManifestTensor& tensor : tensors)
    stored.push_back({.name = tensor.path, .dtype = tensor.dtype, .shape = tensor.shape});
  check_tensors(checkpoint.path, stored, expected,
                {.what = "the state of this run",
                 .owner = "this run",
                 .advice = "go on with the model, optimizers and options that it was written with"});
  std::unordered_map<std::string_view, const PlannedVariable*> planned;
  for (const PlannedVariable& variable : plan.variables) planned[variable.path] = &variable;
  variables.fill_together(ranks, [&](const StateMemory& memory) {
    for (const LoadedCheckpoint::Piece& piece : checkpoint.pieces) {
      const View view = memory.view(*planned.at(tensors[piece.tensor].path));
      std::memcpy(static_cast<char*>(view.data) + piece.offset * size_of(view.dtype), piece.bytes.data(),
                  piece.bytes.size());
    }
  });
}

}  // namespace lockstep
