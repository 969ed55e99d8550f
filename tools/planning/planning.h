// SPDX-License-Identifier: Apache-2.0
// What `lockstep plan` and `lockstep explain` plan: a model, shipped or described by a file, an optimizer and a mesh of
// ranks that need not exist.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "runtime/models/models.h"
#include "runtime/plan/forecast.h"
#include "runtime/plan/plan_search.h"
#include "runtime/step/memory_rehearsal.h"
#include "tools/training/train_options.h"

namespace lockstep {

struct PlanningOptions {
  PlanOptions plan = {};              // its model may also be the path of a TOML file
  std::string mesh = {};              // "data=8,model=4"; empty: data=ranks
  int64_t ranks = 0;                  // 0: the mesh's, or 2
  std::string rules = {};             // TOML file of layout rules
  std::string indivisible = "error";  // or "replicate"
  std::string device = {};            // cpu: one copy per node; cuda: one per rank; empty: by what is planned
  int64_t ranks_per_node = 0;
  int64_t batch = 0;  // samples of a step; 0: the model file's, or 128
  std::optional<int64_t> zero = std::nullopt;
  std::optional<int64_t> accumulation = std::nullopt;
  bool bucket_given = false;      // plan.bucket_mib was given: a search keeps it
  std::string profile = {};       // of machine_profiles(); empty: by device
  std::string memory_limit = {};  // "80GiB"; empty: nothing is searched
};

// "80GiB", "512 MiB", "1e9", "64kB" in bytes: powers of 1024 with an i, of 1000 without. Error(usage).
int64_t parse_bytes(const std::string& option, const std::string& text);

// Everything a plan is made of, kept alive together.
class Planning {
 public:
  // Throws Error(usage, file, data, plan).
  explicit Planning(const PlanningOptions& options);

  const std::string& name() const { return name_; }
  const VariableTable& variables() const { return variables_; }
  const MachineProfile& profile() const { return profile_; }
  // Null for models from files, which cannot be run.
  const Model* model() const { return model_ ? &*model_ : nullptr; }
  // What a leaf of the batch needs while it runs, rehearsed; of a model from a file nothing is known but its figures.
  struct Leaf {
    int64_t samples = 0;
    TransientMemory memory;
  };
  const std::optional<Leaf>& leaf() const { return leaf_; }
  PlannerInput input() const;
  const OptimizerSet& optimizer() const { return *optimizer_; }
  // The plan asked for, or the best one under the memory limit.
  Plan plan() const;
  bool searches() const { return memory_limit_ > 0; }
  const SearchResult& search() const { return *search_; }
  std::string report() const;  // of the search

 private:
  void read_model(const PlanningOptions& options);
  void read_workload(const PlanningOptions& options);
  void search_best(const PlanningOptions& options);

  std::string name_;
  std::optional<Model> model_;
  VariableTable variables_;
  Workload workload_;
  std::optional<Leaf> leaf_;
  LayoutMap layouts_;
  std::optional<OptimizerSet> optimizer_;
  Distribution distribution_;
  PlanningOptions options_;
  MachineProfile profile_;
  Copies copies_ = Copies::per_node;
  int64_t memory_limit_ = 0;
  SearchSpace space_;
  std::optional<SearchResult> search_;
};

}  // namespace lockstep
