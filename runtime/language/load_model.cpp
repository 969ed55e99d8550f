// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <iomanip>
#include <sstream>

#include "runtime/files/file_descriptor.h"
#include "runtime/language/language_model.h"
#include "runtime/language/model_config.h"
#include "runtime/language/weight_files.h"
#include "runtime/models/model_list.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostConfigBytes = 10'000'000;

std::string text_entry(const std::map<std::string, std::string>& metadata, const char* key) {
  const auto found = metadata.find(key);
  return found == metadata.end() ? std::string() : found->second;
}

ModelConfig config_of_directory(const std::string& path) {
  const std::string config_path = path + "/config.json", generation = path + "/generation_config.json";
  ModelConfig config =
      parse_model_config(read_text(config_path, kMostConfigBytes, "the settings of a model"), "'" + config_path + "'");
  std::error_code ignored;
  if (fs::exists(generation, ignored))
    add_generation_config(config, read_text(generation, kMostConfigBytes, "settings of generation"),
                          "'" + generation + "'");
  return config;
}

ModelConfig config_of_file(const WeightFiles& weights) {
  const std::string text = text_entry(weights.metadata(), "config"), name = text_entry(weights.metadata(), "model");
  if (!text.empty()) return parse_model_config(text, str("'", weights.name(), "', its config"));
  const std::optional<TransformerSettings> shipped = shipped_transformer(name);
  check(shipped.has_value(), ErrorCode::data, [&] {
    return str(
        "'", weights.name(), "' does not say the settings of a language model: its metadata have no config, and ",
        name.empty() ? "no model" : str("the model '", name, "'"),
        "; expected a folder with config.json, or a file that `lockstep convert` or `lockstep train` has written");
  });
  return {complete(*shipped), {}};
}

}  // namespace

std::string hash_text(const Tokenizer& tokenizer) {
  std::ostringstream text;
  text << std::hex << std::setw(16) << std::setfill('0') << tokenizer.hash();
  return text.str();
}

std::vector<NamedTensor> LanguageModel::tensors() const {
  std::vector<NamedTensor> named;
  const auto& declarations = model.variables.declarations();
  for (size_t v = 0; v < declarations.size(); ++v) {
    const auto sizes = declarations[v].shape.sizes();
    named.push_back({declarations[v].path, values[v].dtype(), {sizes.begin(), sizes.end()}, View(values[v]).data});
  }
  return named;
}

LanguageModel load_language_model(const std::string& path, Pool& pool) {
  std::error_code ignored;
  const bool folder = fs::is_directory(path, ignored);
  // The settings first: without them nothing is known of the weights.
  std::optional<ModelConfig> config;
  if (folder) config = config_of_directory(path);
  const WeightFiles weights = folder ? WeightFiles::of_directory(path) : WeightFiles::of_file(path);
  if (!config) config = config_of_file(weights);
  Model model = make_transformer("of files", config->settings);
  std::vector<Tensor> values = weights.read(model, config->settings, pool);
  return {.settings = config->settings,
          .model = std::move(model),
          .values = std::move(values),
          .ends = config->ends,
          .tokenizer_hash = text_entry(weights.metadata(), "tokenizer")};
}

void check_tokenizer(const LanguageModel& model, const std::string& model_path, const Tokenizer& tokenizer,
                     const std::string& path) {
  const std::string hash = hash_text(tokenizer);
  check(model.tokenizer_hash.empty() || model.tokenizer_hash == hash, ErrorCode::data, [&] {
    return str("the tokenizer of '", path, "' (hash ", hash, ") does not belong to the weights of '", model_path,
               "', which were trained with another (hash ", model.tokenizer_hash, "); use that one");
  });
  const int64_t rows = model.settings.vocab_size, tokens = tokenizer.vocabulary();
  check(tokens <= rows && (!model.tokenizer_hash.empty() || rows - tokens <= kMostPadding), ErrorCode::data, [&] {
    return str("the tokenizer of '", path, "' has a vocabulary of ", tokens, ", and the model of '", model_path,
               "' one of ", rows, ", expected as many", tokens < rows ? str(", or up to ", kMostPadding, " less") : "",
               "; use the tokenizer that belongs to the weights");
  });
}

}  // namespace lockstep
