// SPDX-License-Identifier: Apache-2.0
#include "runtime/checkpoint/manifest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <limits>
#include <unordered_set>

#include "runtime/files/json_reader.h"
#include "runtime/files/safetensors_header.h"

namespace lockstep {
namespace {

constexpr int kVersion = 1;
constexpr const char* kFormat = "lockstep checkpoint";
constexpr const char* kHash = "xxh3";  // the last key of the text, because keys are sorted

// Limits on what is read. Products of two of them fit 63 bits.
constexpr int64_t kMostSteps = int64_t(1) << 48;
constexpr int64_t kMostEpochs = int64_t(1) << 30;
constexpr int64_t kMostSamples = int64_t(1) << 32;
constexpr int64_t kMostElements = int64_t(1) << 48;
constexpr int64_t kMostRanks = int64_t(1) << 24;
constexpr DType kDTypes[] = {DType::f32, DType::bf16, DType::f64, DType::i32, DType::i64, DType::f16};
Json line_json(const std::optional<LinePosition>& position) {
  if (!position) return {};
  return {{"bytes", position->bytes}, {"xxh3", hash_digits(position->hash)}};
}

Json json_of(const CheckpointManifest& m) {
  Json json{{"format", kFormat},
            {"version", kVersion},
            {"step", m.run.step},
            {"configuration", m.run.configuration},
            {"position",
             {{"epoch", m.run.position.epoch},
              {"step_in_epoch", m.run.position.step_in_epoch},
              {"batch", m.run.position.batch},
              {"samples", m.run.position.samples}}},
            {"scored", m.run.scored},
            {"ledger", line_json(m.run.ledger)},
            {"metrics", line_json(m.run.metrics)},
            {"optimizer",
             {{"iteration", m.optimizer.iteration},
              {"learning_rate", m.optimizer.learning_rate},
              {"loss_scale", m.optimizer.loss_scale}}},
            {"plan", hash_digits(m.plan_hash)},
            {"nodes", m.nodes},
            {"virtual_ranks", m.virtual_ranks}};
  json["mesh"] = Json::array();
  for (const MeshAxis& axis : m.mesh) json["mesh"].push_back({{"axis", axis.name}, {"size", axis.size}});
  json["files"] = Json::array();
  for (const ManifestFile& file : m.files) json["files"].push_back({{"name", file.name}, {"bytes", file.bytes}});
  json["tensors"] = Json::object();
  for (const ManifestTensor& tensor : m.tensors) {
    Json chunks = Json::array();
    for (const ManifestChunk& chunk : tensor.chunks)
      chunks.push_back(
          {{"file", chunk.file}, {"offset", chunk.offset}, {"size", chunk.size}, {"xxh3", hash_digits(chunk.xxh3)}});
    json["tensors"][tensor.path] = {{"role", to_string(tensor.role)},
                                    {"dtype", to_string(tensor.dtype)},
                                    {"shape", tensor.shape},
                                    {"chunks", std::move(chunks)}};
  }
  return json;
}

std::string text_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

// The text of a manifest without its hash, and with it.
std::string sealed(Json json) {
  json.erase(kHash);
  const std::string content = text_of(json);
  json[kHash] = hash_digits(XXH3_64bits(content.data(), content.size()));
  return text_of(json);
}

uint64_t read_hash(const JsonReader& reader, const char* key) {
  const std::string text = reader.text(key);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size() || hash_digits(value) != text)
    reader.wrong("a hash of 16 hexadecimal digits", reader.at(key), key);
  return value;
}

std::optional<LinePosition> read_line_position(const JsonReader& root, const char* key) {
  if (root.at(key).is_null()) return std::nullopt;
  const JsonReader reader(root.at(key), str(root.where(), ".", key));
  return LinePosition{reader.number("bytes", 0, std::numeric_limits<int64_t>::max()), read_hash(reader, "xxh3")};
}

// A control character could rewrite what the terminal shows.
void check_name(const JsonReader& where, const char* key, const std::string& name) {
  if (name.empty() || name.size() > kMaxNameBytes ||
      std::ranges::any_of(name, [](char c) { return uint8_t(c) < 0x20 || c == 0x7f; }))
    where.wrong(str("names of 1 to ", kMaxNameBytes, " bytes without control characters"), Json(name), key);
}

RunState read_run(const JsonReader& root) {
  RunState run;
  run.step = root.number("step", 0, kMostSteps);
  const JsonReader configuration(root.at("configuration"), root.where() + ".configuration");
  for (const auto& [name, value] : root.at("configuration").items()) {
    check_name(root, "configuration", name);
    run.configuration[name] = configuration.text(name.c_str());
  }
  const JsonReader position(root.at("position"), root.where() + ".position");
  run.position.epoch = position.number("epoch", 0, kMostEpochs);
  run.position.batch = position.number("batch", 1, kMostSamples);
  run.position.samples = position.number("samples", 1, kMostSamples);
  run.position.step_in_epoch = position.number("step_in_epoch", 0, run.position.samples / run.position.batch);
  run.scored = root.flag("scored");
  run.ledger = read_line_position(root, "ledger");
  run.metrics = read_line_position(root, "metrics");
  return run;
}

// A name within the folder, as shard_name() and people would choose it.
void check_plain(const JsonReader& file, const std::string& name) {
  const bool plain = !name.empty() && name.size() <= 255 && name[0] != '.' && name != kManifestName &&
                     std::ranges::all_of(name, [](char c) {
                       return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                              c == '_' || c == '-';
                     });
  if (!plain) file.wrong("the plain name of a file in this folder", file.at("name"), "name");
}

std::vector<ManifestFile> read_files(const JsonReader& root) {
  std::vector<ManifestFile> files;
  std::unordered_set<std::string> names;
  root.each("files", [&](const JsonReader& reader) {
    ManifestFile file{reader.text("name"), reader.number("bytes", 0, std::numeric_limits<int64_t>::max())};
    check_plain(reader, file.name);
    if (!names.insert(file.name).second) reader.wrong("different names", reader.at("name"), "name");
    files.push_back(std::move(file));
  });
  if (int64_t(files.size()) > kMostRanks) root.wrong(str("at most ", kMostRanks, " files"), root.at("files"), "files");
  return files;
}

ManifestTensor read_tensor(const JsonReader& reader, std::string path, size_t files) {
  ManifestTensor tensor{.path = std::move(path), .dtype = reader.name("dtype", kDTypes), .shape = {}, .chunks = {}};
  const std::string role = reader.text("role");
  bool known = false;
  for (int r = 0; r < kRoles; ++r)
    if (to_string(Role(r)) == role) tensor.role = Role(r), known = true;
  if (!known) reader.wrong("the role of a variable", reader.at("role"), "role");
  int64_t elements = 1;
  reader.each_number("shape", 0, kMostElements, [&](int64_t size) {
    tensor.shape.push_back(size);
    if (tensor.shape.size() > kMaxStoredRank || __builtin_mul_overflow(elements, size, &elements) ||
        elements > kMostElements)
      reader.wrong(str("at most ", kMaxStoredRank, " dimensions and 2^48 elements"), reader.at("shape"), "shape");
  });
  int64_t end = 0;
  reader.each("chunks", [&](const JsonReader& r) {
    const ManifestChunk chunk{.file = int32_t(r.number("file", 0, int64_t(files) - 1)),
                              .offset = r.number("offset", end, end),
                              .size = r.number("size", 1, elements - end),
                              .xxh3 = read_hash(r, "xxh3")};
    end += chunk.size;
    tensor.chunks.push_back(chunk);
  });
  if (end != elements) reader.wrong(str("chunks of ", elements, " elements together"), Json(end), "chunks");
  return tensor;
}

CheckpointManifest read_manifest(const JsonReader& root) {
  if (root.text("format") != kFormat) root.wrong(str("'", kFormat, "'"), root.at("format"), "format");
  root.number("version", kVersion, kVersion);
  CheckpointManifest m;
  m.run = read_run(root);
  const JsonReader optimizer(root.at("optimizer"), root.where() + ".optimizer");
  m.optimizer = {optimizer.number("iteration", 0, kMostSteps), optimizer.text("learning_rate"),
                 optimizer.text("loss_scale")};
  m.plan_hash = read_hash(root, "plan");
  root.each("mesh", [&](const JsonReader& axis) {
    m.mesh.push_back({axis.text("axis"), int(axis.number("size", 1, kMostRanks))});
  });
  m.nodes = root.number("nodes", 1, kMostRanks);
  m.virtual_ranks = root.number("virtual_ranks", 1, kMostRanks);
  m.files = read_files(root);
  const Json& tensors = root.at("tensors");
  if (!tensors.is_object()) root.wrong("an object", tensors, "tensors");
  for (const auto& [path, tensor] : tensors.items()) {
    check_name(root, "tensors", path);
    m.tensors.push_back(read_tensor(JsonReader(tensor, str(root.where(), ".tensors.", path)), path, m.files.size()));
  }
  return m;
}

}  // namespace

int64_t ManifestTensor::elements() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

int64_t CheckpointManifest::bytes() const {
  int64_t sum = 0;
  for (const ManifestFile& file : files) sum += file.bytes;
  return sum;
}

std::string manifest_to_text(const CheckpointManifest& manifest) { return sealed(json_of(manifest)); }

CheckpointManifest manifest_from_text(std::string_view text, const std::string& where) {
  check(int64_t(text.size()) <= kLongestManifest, ErrorCode::data,
        [&] { return str(where, " has ", text.size(), " bytes; a manifest has at most ", kLongestManifest); });
  const Json json = parse_json(text, where);
  const JsonReader root(json, where);
  // The hash first: where it is right, the other checks find faults of the program and not of the disk.
  const uint64_t hash = read_hash(root, kHash);
  Json content = json;
  const std::string expected = sealed(std::move(content));
  check(expected == text, ErrorCode::data, [&] {
    const size_t digits = expected.rfind(kHash) + std::string_view(kHash).size() + 3;
    return str(where, ": expected content with the hash ", hash_digits(hash), ", got ", expected.substr(digits, 16),
               "; it was changed or damaged");
  });
  CheckpointManifest manifest = read_manifest(root);
  Json written = json_of(manifest);
  written[kHash] = hash_digits(hash);
  const std::string difference = first_difference(written, json, where);
  check(difference.empty(), ErrorCode::data, [&] { return difference + "; it is of another version"; });
  return manifest;
}

std::string shard_name(int rank) {
  char name[40];
  std::snprintf(name, sizeof name, "shard_%05d.safetensors", rank);
  return name;
}

std::string hash_digits(uint64_t hash) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

}  // namespace lockstep
