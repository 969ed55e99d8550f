// SPDX-License-Identifier: Apache-2.0
#include "runtime/checkpoint/shard.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <unordered_map>

#include "kernels/device/number_text.h"
#include "runtime/checkpoint/checkpoint_folder.h"

namespace lockstep {
namespace {

constexpr std::string_view kShardFormat = "lockstep checkpoint shard";
constexpr std::string_view kChunkKey = "chunk ";  // before the path of a variable

std::map<std::string, std::string> described(const ShardPlace& place) {
  return {{"format", std::string(kShardFormat)},
          {"step", str(place.step)},
          {"shard", str(place.rank)},
          {"shards", str(place.ranks)}};
}

// "128 0123456789abcdef": the first element and the hash.
bool read_chunk_text(std::string_view text, ShardChunk& chunk) {
  const size_t space = text.find(' ');
  if (space == text.npos) return false;
  const std::string_view digits = text.substr(space + 1);
  const char* const end = digits.data() + digits.size();
  const auto offset = std::from_chars(text.data(), text.data() + space, chunk.offset);
  const auto hash = std::from_chars(digits.data(), end, chunk.xxh3, 16);
  return offset.ec == std::errc() && hash.ec == std::errc() && hash.ptr == end && chunk.offset >= 0 &&
         str(chunk.offset, " ", hash_digits(chunk.xxh3)) == text;
}

// Pieces that are small enough for a writer to be stopped between them.
void cut_into_pieces(std::span<const std::byte> bytes, std::vector<std::span<const std::byte>>& pieces) {
  constexpr size_t kPiece = size_t(16) << 20;
  for (size_t begin = 0; begin < bytes.size(); begin += kPiece)
    pieces.push_back(bytes.subspan(begin, std::min(kPiece, bytes.size() - begin)));
}

SafetensorsLayout lay_out_shard(const std::string& path, const ShardPlace& place, const StateSnapshot& snapshot) {
  std::vector<NamedTensor> tensors;
  std::map<std::string, std::string> metadata = described(place);
  for (size_t c = 0; c < snapshot.chunks().size(); ++c) {
    const StateChunk& chunk = snapshot.chunks()[c];
    const PlannedVariable& variable = snapshot.plan().variables[size_t(chunk.variable)];
    const std::span<const std::byte> bytes = snapshot.bytes(c);
    std::vector<int64_t> shape{chunk.elements()};
    if (chunk.elements() == variable.local_elements)
      shape.assign(variable.shape.sizes().begin(), variable.shape.sizes().end());
    tensors.push_back({variable.path, variable.dtype, std::move(shape), bytes.data()});
    metadata[str(kChunkKey, variable.path)] = str(chunk.begin, " ", hash_digits(hash_bytes(bytes)));
  }
  return lay_out_safetensors(path, tensors, metadata);
}

}  // namespace

uint64_t hash_bytes(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

StateSnapshot::StateSnapshot(const VariableStore& variables, Device device, std::span<const int> node_of, int rank)
    : variables_(variables), device_(device), chunks_(chunks_of(variables.plan(), node_of, rank)), offsets_{0} {
  constexpr int64_t kAlignment = 64;
  for (const StateChunk& chunk : chunks_) {
    const int64_t bytes = chunk.elements() * size_of(plan().variables[size_t(chunk.variable)].dtype);
    offsets_.push_back(offsets_.back() + (bytes + kAlignment - 1) / kAlignment * kAlignment);
  }
}

void StateSnapshot::take() {
  if (memory_.data() == nullptr && offsets_.back() > 0) memory_ = PinnedBuffer(device_, offsets_.back());
  for (size_t c = 0; c < chunks_.size(); ++c)
    variables_.copy_to_host(plan().variables[size_t(chunks_[c].variable)], chunks_[c].begin, chunks_[c].end,
                            static_cast<char*>(memory_.data()) + offsets_[c]);
  variables_.await_copies();
}

std::span<const std::byte> StateSnapshot::bytes(size_t chunk) const {
  const DType dtype = plan().variables[size_t(chunks_[chunk].variable)].dtype;
  return {static_cast<const std::byte*>(memory_.data()) + offsets_[chunk],
          size_t(chunks_[chunk].elements() * size_of(dtype))};
}

void write_shard(const FileOperations& files, const std::string& path, const ShardPlace& place,
                 const StateSnapshot& snapshot) {
  const SafetensorsLayout layout = lay_out_shard(path, place, snapshot);
  std::vector<std::span<const std::byte>> pieces{std::as_bytes(std::span(layout.head))};
  for (const std::span<const std::byte> data : layout.data) cut_into_pieces(data, pieces);
  files.write_new_file(path, pieces);
}

void rewrite_shard(const std::string& path, const ShardPlace& place, const StateSnapshot& snapshot) {
  const SafetensorsLayout layout = lay_out_shard(path, place, snapshot);
  std::vector<std::span<const std::byte>> pieces{std::as_bytes(std::span(layout.head))};
  pieces.insert(pieces.end(), layout.data.begin(), layout.data.end());
  rewrite_file(path, pieces);
}

std::vector<ShardChunk> read_shard_chunks(const SafetensorsFile& file, const ShardPlace& place) {
  const auto refuse = [&](const std::string& what) {
    fail(ErrorCode::data, str("'", file.path(), "' ", what, "; it is damaged, or of another checkpoint"));
  };
  for (const auto& [key, value] : described(place)) {
    const auto found = file.metadata().find(key);
    if (found == file.metadata().end() || found->second != value)
      refuse(str("should say that its ", key, " is '", value, "', and does not"));
  }
  std::vector<ShardChunk> chunks;
  for (const StoredTensor& tensor : file.tensors()) {
    ShardChunk chunk{.path = tensor.name, .dtype = tensor.dtype, .size = tensor.bytes / size_of(tensor.dtype)};
    const auto found = file.metadata().find(str(kChunkKey, tensor.name));
    if (found == file.metadata().end() || !read_chunk_text(found->second, chunk))
      refuse(str("does not say which elements of ", tensor.name, " it holds"));
    chunks.push_back(std::move(chunk));
  }
  return chunks;
}

void add_shards(CheckpointManifest& manifest, const std::string& folder, int ranks) {
  std::unordered_map<std::string_view, ManifestTensor*> tensors;
  for (ManifestTensor& tensor : manifest.tensors) tensors[tensor.path] = &tensor;
  manifest.files.clear();
  for (int rank = 0; rank < ranks; ++rank) {
    const SafetensorsFile shard(in_folder(folder, shard_name(rank)));
    manifest.files.push_back({shard_name(rank), shard.bytes()});
    for (const ShardChunk& chunk : read_shard_chunks(shard, {manifest.run.step, rank, ranks})) {
      const auto tensor = tensors.find(chunk.path);
      check(tensor != tensors.end(), ErrorCode::data,
            [&] { return str("'", shard.path(), "' holds ", chunk.path, ", which the run does not have"); });
      tensor->second->chunks.push_back({rank, chunk.offset, chunk.size, chunk.xxh3});
    }
  }
  for (ManifestTensor& tensor : manifest.tensors) std::ranges::sort(tensor.chunks, {}, &ManifestChunk::offset);
}

std::vector<ManifestTensor> manifest_tensors(const Plan& plan) {
  std::vector<ManifestTensor> tensors;
  for (const PlannedVariable& variable : plan.variables) {
    const auto sizes = variable.shape.sizes();
    tensors.push_back({variable.path, variable.role, variable.dtype, {sizes.begin(), sizes.end()}, {}});
  }
  std::ranges::sort(tensors, {}, &ManifestTensor::path);
  return tensors;
}

OptimizerPosition optimizer_position(const VariableStore& variables) {
  const OptimizerScalars& scalars = variables.scalars();
  return {.iteration = scalars.iteration(),
          .learning_rate = exact(scalars.learning_rate()),
          .loss_scale = scalars.has_loss_scale() ? exact(scalars.loss_scale()) : ""};
}

}  // namespace lockstep
