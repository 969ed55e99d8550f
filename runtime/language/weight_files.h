// SPDX-License-Identifier: Apache-2.0
// The safetensors files that hold the weights of one language model, under whichever names they have them.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/autograd/tensor.h"
#include "runtime/files/safetensors.h"
#include "runtime/models/transformer.h"

namespace lockstep {

// One file, or the shards of a model.safetensors.index.json.
class WeightFiles {
 public:
  static WeightFiles of_file(const std::string& path);
  // model.safetensors, or else the shards that model.safetensors.index.json lists. Error(file, data).
  static WeightFiles of_directory(const std::string& path);

  const std::string& name() const { return name_; }  // of the file or the index, for messages
  const std::map<std::string, std::string>& metadata() const { return files_.front().metadata(); }

  // The values of all variables of the model, in f32 whatever the files have (f32, bf16 or f16). Names are those of
  // variables, or those of Hugging Face, which may lack the first word ("transformer.", "model."). Masks of attention
  // and frequencies of rotary positions are passed over, and so is a classifier that equals the table it is tied to.
  // Error(data) names, together, tensors that are missing, extra, or of another shape or dtype.
  std::vector<Tensor> read(const Model& model, const TransformerSettings& settings, Pool& pool) const;

 private:
  explicit WeightFiles(std::string name) : name_(std::move(name)) {}
  struct Place {
    const SafetensorsFile* file;
    const StoredTensor* tensor;
  };
  void index_tensors(const std::map<std::string, std::string>& listed);
  std::string stored_name(const std::string& path) const;
  void check(const Model& model, const TransformerSettings& settings) const;
  void check_tied(const std::string& table) const;
  std::vector<float> values_of(const Place& place) const;

  std::string name_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Place> places_;  // by the names in the files
};

// The names of the files that a model.safetensors.index.json lists, by tensor. Error(data), which begins with `where`.
std::map<std::string, std::string> parse_weight_index(std::string_view text, const std::string& where);

// What Hugging Face calls a variable.
std::string exchanged_name(std::string path);

}  // namespace lockstep
