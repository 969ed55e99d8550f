// SPDX-License-Identifier: Apache-2.0
// The subject of `lockstep plan` and `lockstep explain`: a model, shipped or described by a file, an optimizer and a
// mesh of ranks that need not exist.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "runtime/models/model_list.h"
#include "runtime/plan/forecast.h"
#include "runtime/plan/plan_search.h"
#include "runtime/step/memory_rehearsal.h"
#include "tools/training/train_options.h"

namespace lockstep {

// What `plan` and `explain` are asked.
struct ForecastOptions {
  ModelOptions model = {};        // its name may also be the path of a TOML file
  ModelSettings images = {};      // sizes and classes of a shipped model's images
  PlanSettings plan = {};         // without a mesh: data=ranks; without a batch: the model file's, or 128
  int64_t batch_tokens = 0;       // of a language model, in place of the plan's batch; 0: not given
  int64_t ranks = 0;              // 0: the mesh's, or 2
  std::string rules = {};         // TOML file of layout rules
  std::string device = {};        // cpu: one copy per node; cuda: one per rank; empty: depends on what is planned
  std::string profile = {};       // one of machine_profiles(); empty: by device
  std::string memory_limit = {};  // "80GiB"; empty: nothing is searched
  // Settings that a search keeps as they were given.
  struct Fixed {
    bool zero = false, accumulation = false, bucket_bytes = false;
  } fixed = {};
};

// Converts "80GiB", "512 MiB", "1e9", "64kB" to bytes: powers of 1024 with an i, of 1000 without. Error(usage).
int64_t parse_bytes(const std::string& option, const std::string& text);

// Reads "28x28": height and width of images, each from 1 to 4096. Error(usage).
void parse_image_size(const std::string& option, const std::string& text, ModelSettings& images);

// Everything a plan is made from, kept alive together.
class Planning {
 public:
  // Throws Error(usage, file, data, plan).
  explicit Planning(const ForecastOptions& options);

  const std::string& name() const { return name_; }
  const VariableTable& variables() const { return variables_; }
  const MachineProfile& profile() const { return profile_; }
  // Null for models from files, which cannot be run.
  const Model* model() const { return model_ ? &*model_ : nullptr; }
  const ModelSettings& images() const { return options_.images; }
  double dropout() const { return options_.model.dropout; }
  // What a part of the batch needs while it runs, as rehearsed; for a model from a file only its figures are known.
  struct Part {
    int64_t samples = 0;
    TransientMemory memory;
  };
  const std::optional<Part>& part() const { return part_; }
  PlannerInput input() const { return {.variables = variables_, .optimizer = *optimizer_, .settings = settings_}; }
  const OptimizerSet& optimizer() const { return *optimizer_; }
  // The plan asked for, or the best one under the memory limit.
  Plan plan() const;
  bool searches() const { return memory_limit_ > 0; }
  const SearchResult& search() const { return *search_; }
  std::string report() const;  // report of the search

 private:
  void read_model();
  void rehearse_activations();
  void search_best();

  std::string name_;
  std::optional<Model> model_;
  VariableTable variables_;
  PlanSettings settings_;
  std::optional<Part> part_;
  std::optional<OptimizerSet> optimizer_;
  ForecastOptions options_;
  MachineProfile profile_;
  int64_t memory_limit_ = 0;
  SearchSpace space_;
  std::optional<SearchResult> search_;
};

}  // namespace lockstep
