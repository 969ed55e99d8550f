// SPDX-License-Identifier: Apache-2.0
// A trained language model with its weights, from files and to files: a folder as Hugging Face's libraries read and
// write it, or one safetensors file that carries its settings. docs/hugging-face.md has names and limits.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/files/safetensors.h"
#include "runtime/models/transformer.h"
#include "runtime/text/tokenizer.h"

namespace lockstep {

struct LanguageModel {
  TransformerSettings settings;  // complete
  Model model;
  std::vector<Tensor> values;  // f32 in memory of the host, in the order of the model's variables
  std::vector<int32_t> ends;   // tokens that end a text, as the files say
  std::string tokenizer_hash;  // of the tokenizer of its texts; empty where the files do not say

  // The values under the names of the variables; they borrow from this object.
  std::vector<NamedTensor> tensors() const;
};

// Reads a folder of Hugging Face, or a safetensors file of save_model_file() or of a shipped model (train --save).
// `pool`, of the host, must outlive the values. Error(file) and Error(data) name the file and what does not fit.
LanguageModel load_language_model(const std::string& path, Pool& pool);

// Error(data) unless the tokenizer, which came from `path`, can be that of the model: its hash is the one that the
// weights were saved with, or, where they do not say, its vocabulary fits the model's, which may be padded by up to
// kMostPadding rows.
inline constexpr int64_t kMostPadding = 1024;
void check_tokenizer(const LanguageModel& model, const std::string& model_path, const Tokenizer& tokenizer,
                     const std::string& path);

struct DirectoryOptions {
  // Weights of more bytes are split into shards of up to this size, with an index.
  int64_t most_shard_bytes = 5'000'000'000;
  std::optional<int32_t> end_of_text = {};  // where there is no tokenizer that says it
};

// Writes config.json, generation_config.json, the weights and, unless it is null, the tokenizer into a folder, which is
// made where it is missing. `variables` are those of make_transformer() by their paths, or Error(usage). Every file is
// there whole or not at all, config.json last. Files of the same names are replaced. Error(usage) where settings cannot
// be expressed there, and where a model.safetensors lies in the folder that would be taken for what is written.
void save_directory(const std::string& path, const TransformerSettings& settings,
                    std::span<const NamedTensor> variables, const Tokenizer* tokenizer,
                    const DirectoryOptions& options = {});
// The files that save_directory() writes into a folder, besides those of the tokenizer.
std::vector<std::string> directory_files(const std::string& path, std::span<const NamedTensor> variables,
                                         const DirectoryOptions& options = {});

// What tells a safetensors file's settings, and the tokenizer of its texts (empty: unknown): metadata to be written
// with the weights.
std::map<std::string, std::string> language_metadata(const TransformerSettings& settings,
                                                     const std::string& tokenizer_hash,
                                                     std::optional<int32_t> end_of_text = {});
// Writes the weights with their settings into one file, named by the paths of the variables, whole or not at all.
void save_model_file(const std::string& path, const TransformerSettings& settings,
                     std::span<const NamedTensor> variables, const std::string& tokenizer_hash,
                     std::optional<int32_t> end_of_text = {});

std::string hash_text(const Tokenizer& tokenizer);  // "00c5f2..."

}  // namespace lockstep
