// SPDX-License-Identifier: Apache-2.0
#include "runtime/language/weight_files.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>
#include <utility>

#include "kernels/launch.h"
#include "kernels/pointwise.h"
#include "runtime/files/json_reader.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostIndexBytes = 100'000'000;
constexpr std::string_view kClassifier = "lm_head.weight";

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::string shape_text(DType dtype, std::span<const int64_t> sizes) {
  std::string text = str(to_string(dtype), " [");
  for (size_t i = 0; i < sizes.size(); ++i) text += str(i == 0 ? "" : ", ", sizes[i]);
  return text + "]";
}

bool is_narrow_or_f32(DType dtype) { return dtype == DType::f32 || is_narrow(dtype); }

// Tensors that older programs have saved although they follow from the settings.
bool follows_from_settings(const std::string& name) {
  for (const std::string_view end : {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"})
    if (name.ends_with(end)) return true;
  return false;
}

}  // namespace

std::map<std::string, std::string> parse_weight_index(std::string_view text, const std::string& where) {
  constexpr size_t kLongestFileName = 255;
  const Json json = parse_json(text, where);
  const JsonReader reader(JsonReader(json, where).at("weight_map"), where + ".weight_map");
  std::map<std::string, std::string> files;
  for (const auto& entry : JsonReader(json, where).at("weight_map").items()) {
    const std::string& name = entry.key();
    // Names are printed, as they are in the files of tensors.
    const bool plain = std::ranges::none_of(name, [](char c) { return uint8_t(c) < 0x20 || c == 0x7f; });
    check(plain && name.size() <= kMaxNameBytes, ErrorCode::data,
          [&] { return str(reader.where(), " has the name ", shown(Json(name)), ", expected that of a tensor"); });
    const std::string file = reader.text(name.c_str());
    if (file.empty() || file.size() > kLongestFileName || file.find('/') != file.npos || file[0] == '.')
      reader.wrong("the name of a file in the same folder", entry.value(), name.c_str());
    files.emplace(name, file);
  }
  check(!files.empty(), ErrorCode::data, [&] { return str(reader.where(), ": expected tensors, got none"); });
  return files;
}

std::string exchanged_name(std::string path) {
  std::ranges::replace(path, '/', '.');
  return path;
}

WeightFiles WeightFiles::of_file(const std::string& path) {
  WeightFiles weights(path);
  weights.files_.emplace_back(path);
  weights.index_tensors({});
  return weights;
}

WeightFiles WeightFiles::of_directory(const std::string& path) {
  const std::string whole = path + "/model.safetensors", index = whole + ".index.json";
  if (exists(whole)) return of_file(whole);
  lockstep::check(exists(index), ErrorCode::file, [&] {
    return str("'", path, "' holds no weights: expected model.safetensors or model.safetensors.index.json",
               exists(path + "/pytorch_model.bin") ? ", got pytorch_model.bin; save it again as safetensors"
                                                   : "; name the folder of a model");
  });
  WeightFiles weights(index);
  const std::map<std::string, std::string> listed =
      parse_weight_index(read_text(index, kMostIndexBytes, "an index of weights"), "'" + index + "'");
  std::set<std::string> shards;
  for (const auto& [name, shard] : listed) shards.insert(shard);
  for (const std::string& shard : shards) weights.files_.emplace_back(str(path, "/", shard));
  weights.index_tensors(listed);
  return weights;
}

void WeightFiles::index_tensors(const std::map<std::string, std::string>& listed) {
  for (const SafetensorsFile& file : files_)
    for (const StoredTensor& tensor : file.tensors()) {
      const auto added = places_.emplace(tensor.name, Place{&file, &tensor});
      lockstep::check(added.second, ErrorCode::data, [&] {
        return str("'", file.path(), "' has tensor '", tensor.name, "', and so has '", added.first->second.file->path(),
                   "'; expected it once");
      });
    }
  for (const auto& entry : listed) {
    const std::string &name = entry.first, &shard = entry.second;
    const auto found = places_.find(name);
    const bool there = found != places_.end() && fs::path(found->second.file->path()).filename() == shard;
    lockstep::check(there, ErrorCode::data, [&] {
      return str("'", name_, "' says that '", shard, "' has tensor '", name,
                 "', which it has not; use shards and index of one model");
    });
  }
}

std::string WeightFiles::stored_name(const std::string& path) const {
  if (places_.contains(path)) return path;
  const std::string name = exchanged_name(path);
  if (places_.contains(name)) return name;
  const std::string short_name = name.substr(name.find('.') + 1);
  return name != kClassifier && places_.contains(short_name) ? short_name : name;
}

void WeightFiles::check(const Model& model, const TransformerSettings& settings) const {
  std::vector<std::string> lines;
  std::set<std::string> known;
  for (const VariableDeclaration& variable : model.variables.declarations()) {
    const std::string name = stored_name(variable.path);
    known.insert(name);
    const auto found = places_.find(name);
    const auto sizes = variable.shape.sizes();
    if (found == places_.end()) {
      lines.push_back(str(name, " is missing"));
      continue;
    }
    const StoredTensor& stored = *found->second.tensor;
    if (!std::ranges::equal(stored.shape, sizes) || !is_narrow_or_f32(stored.dtype))
      lines.push_back(str(name, " is ", shape_text(stored.dtype, stored.shape), ", expected ",
                          shape_text(DType::f32, sizes), is_narrow_or_f32(stored.dtype) ? "" : " (or bf16, f16)"));
  }
  for (const auto& [name, place] : places_)
    if (!known.contains(name) && !follows_from_settings(name) && !(settings.tied && name == kClassifier))
      lines.push_back(str(name, " is no variable of the model"));
  constexpr size_t kShown = 8;
  lockstep::check(lines.empty(), ErrorCode::data, [&] {
    std::string text =
        str("'", name_, "' does not hold the weights of a ",
            settings.family == TransformerFamily::gpt ? "GPT-2" : "Llama", " model with these settings:");
    for (size_t i = 0; i < std::min(lines.size(), kShown); ++i) text += (i ? "; " : " ") + lines[i];
    if (lines.size() > kShown) text += str("; and ", lines.size() - kShown, " more");
    return text + "; use weights and settings of one model";
  });
}

std::vector<float> WeightFiles::values_of(const Place& place) const {
  std::vector<float> values(size_t(place.tensor->bytes / size_of(place.tensor->dtype)));
  const auto size = int64_t(values.size());
  if (place.tensor->dtype == DType::f32) {
    place.file->read(place.tensor->name, std::as_writable_bytes(std::span(values)));
    return values;
  }
  std::vector<uint16_t> narrow(values.size());
  place.file->read(place.tensor->name, std::as_writable_bytes(std::span(narrow)));
  Stream stream = Stream::cpu();
  launch(stream, Copy{View{values.data(), DType::f32, DeviceKind::cpu, {size}},
                      ConstView{narrow.data(), place.tensor->dtype, DeviceKind::cpu, {size}}});
  return values;
}

void WeightFiles::check_tied(const std::string& table) const {
  const auto classifier = places_.find(std::string(kClassifier));
  if (classifier == places_.end()) return;
  const Place& tied = places_.at(table);
  const bool comparable =
      is_narrow_or_f32(classifier->second.tensor->dtype) && classifier->second.tensor->shape == tied.tensor->shape;
  lockstep::check(comparable && values_of(classifier->second) == values_of(tied), ErrorCode::data, [&] {
    return str("'", classifier->second.file->path(), "' has a '", kClassifier, "' that differs from '", table,
               "', to which tie_word_embeddings ties it; set tie_word_embeddings to false in config.json");
  });
}

std::vector<Tensor> WeightFiles::read(const Model& model, const TransformerSettings& settings, Pool& pool) const {
  check(model, settings);
  const auto& declarations = model.variables.declarations();
  // The table of tokens is the first variable of both families.
  if (settings.tied) check_tied(stored_name(declarations.front().path));
  std::vector<Tensor> values;
  for (const VariableDeclaration& variable : declarations) {
    const Tensor& value = values.emplace_back(pool, DType::f32, variable.shape, Purpose::parameters);
    const std::vector<float> read = values_of(places_.at(stored_name(variable.path)));
    std::memcpy(View(value).data, read.data(), read.size() * sizeof(float));
  }
  return values;
}

}  // namespace lockstep
