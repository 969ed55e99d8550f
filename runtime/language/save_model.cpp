// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <map>
#include <string_view>

#include "runtime/files/atomic_file.h"
#include "runtime/files/json_reader.h"
#include "runtime/language/language_model.h"
#include "runtime/language/model_config.h"
#include "runtime/language/weight_files.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

int64_t bytes_of(const NamedTensor& tensor) {
  int64_t bytes = size_of(tensor.dtype);
  for (const int64_t size : tensor.shape) bytes *= size;
  return bytes;
}

struct Shard {
  std::string name;
  std::vector<NamedTensor> tensors;  // by the names that are exchanged
};

std::string five_digits(size_t number) {
  const std::string text = str(number);
  return std::string(5 - std::min<size_t>(text.size(), 5), '0') + text;
}

// Shards are filled in the order of the variables; one that is larger than the limit has a shard of its own.
std::vector<Shard> shards_of(std::span<const NamedTensor> variables, const DirectoryOptions& options) {
  check(options.most_shard_bytes > 0, ErrorCode::usage,
        [&] { return str("expected shards of at least 1 byte, got ", options.most_shard_bytes); });
  std::vector<Shard> shards(1);
  int64_t filled = 0;
  for (const NamedTensor& variable : variables) {
    const int64_t bytes = bytes_of(variable);
    if (filled > 0 && filled + bytes > options.most_shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    filled += bytes;
    NamedTensor& tensor = shards.back().tensors.emplace_back(variable);
    tensor.name = exchanged_name(tensor.name);
  }
  for (size_t i = 0; i < shards.size(); ++i)
    shards[i].name = shards.size() == 1
                         ? "model.safetensors"
                         : str("model-", five_digits(i + 1), "-of-", five_digits(shards.size()), ".safetensors");
  return shards;
}

void check_variables(const TransformerSettings& settings, std::span<const NamedTensor> variables) {
  const Model model = make_transformer("to be saved", settings);
  std::map<std::string_view, const NamedTensor*> given;
  for (const NamedTensor& variable : variables) given.emplace(variable.name, &variable);
  for (const VariableDeclaration& variable : model.variables.declarations()) {
    const auto found = given.find(variable.path);
    check(found != given.end() && std::ranges::equal(found->second->shape, variable.shape.sizes()), ErrorCode::usage,
          [&] {
            return str("a model with these settings has a variable ", variable.path, " ", to_string(variable.shape),
                       ", which is not among those to be saved; save the variables of one model");
          });
  }
  check(given.size() == model.variables.declarations().size(), ErrorCode::usage, [&] {
    return str("expected the ", model.variables.declarations().size(), " variables of a model, got ", given.size());
  });
}

void write_text(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text.data(), int64_t(text.size()));
  file.commit();
}

std::string index_json(std::span<const Shard> shards) {
  Json files = Json::object();
  int64_t bytes = 0;
  for (const Shard& shard : shards)
    for (const NamedTensor& tensor : shard.tensors) {
      files[tensor.name] = shard.name;
      bytes += bytes_of(tensor);
    }
  return Json{{"metadata", {{"total_size", bytes}}}, {"weight_map", files}}.dump(2) + "\n";
}

void make_folder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail_file("make the folder", path, error.value());
}

}  // namespace

std::vector<std::string> directory_files(const std::string& path, std::span<const NamedTensor> variables,
                                         const DirectoryOptions& options) {
  std::vector<std::string> files{path + "/config.json", path + "/generation_config.json"};
  const std::vector<Shard> shards = shards_of(variables, options);
  for (const Shard& shard : shards) files.push_back(str(path, "/", shard.name));
  if (shards.size() > 1) files.push_back(path + "/model.safetensors.index.json");
  return files;
}

void save_directory(const std::string& path, const TransformerSettings& given, std::span<const NamedTensor> variables,
                    const Tokenizer* tokenizer, const DirectoryOptions& options) {
  const TransformerSettings settings = complete(given);
  check(settings.rope_pairs == RotaryPairs::halves || settings.family == TransformerFamily::gpt, ErrorCode::usage,
        "rotary positions that turn neighbours cannot be expressed in a folder of Hugging Face, whose Llama turns "
        "halves; save a file");
  check_variables(settings, variables);
  const std::vector<Shard> shards = shards_of(variables, options);
  std::error_code ignored;
  check(shards.size() == 1 || !fs::exists(path + "/model.safetensors", ignored), ErrorCode::usage, [&] {
    return str("'", path, "' holds a model.safetensors, which would be taken for the weights in place of ",
               shards.size(), " shards; name another folder");
  });
  make_folder(path);
  std::map<std::string, std::string> metadata{{"format", "pt"}};
  if (tokenizer) metadata["tokenizer"] = hash_text(*tokenizer);
  for (const Shard& shard : shards) write_safetensors(str(path, "/", shard.name), shard.tensors, metadata);
  if (shards.size() > 1) write_text(path + "/model.safetensors.index.json", index_json(shards));
  if (tokenizer) tokenizer->save(path);
  const std::optional<int32_t> end = tokenizer ? tokenizer->end_of_text() : options.end_of_text;
  write_text(path + "/generation_config.json", generation_config_json(end));
  write_text(path + "/config.json", model_config_json(settings, end));
}

std::map<std::string, std::string> language_metadata(const TransformerSettings& settings,
                                                     const std::string& tokenizer_hash,
                                                     std::optional<int32_t> end_of_text) {
  std::map<std::string, std::string> metadata{{"config", model_config_json(complete(settings), end_of_text)}};
  if (!tokenizer_hash.empty()) metadata["tokenizer"] = tokenizer_hash;
  return metadata;
}

void save_model_file(const std::string& path, const TransformerSettings& settings,
                     std::span<const NamedTensor> variables, const std::string& tokenizer_hash,
                     std::optional<int32_t> end_of_text) {
  check_variables(complete(settings), variables);
  std::map<std::string, std::string> metadata = language_metadata(settings, tokenizer_hash, end_of_text);
  metadata["format"] = "lockstep";
  write_safetensors(path, variables, metadata);
}

}  // namespace lockstep
