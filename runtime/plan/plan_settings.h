// SPDX-License-Identifier: Apache-2.0
// What the planner is asked for. It is part of the plan, so that every decision can be explained from the plan alone.
//
// for_each_field() at the end lists the fields once. The hash of a plan, its file, the difference of two plans and the
// description of a run go through that list, so a field that is added to it is in all of them.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "collectives/reduce_mode.h"
#include "kernels/step_cells.h"
#include "runtime/variables/distribution.h"

namespace lockstep {

// How many copies there are of what is replicated.
enum class Copies : uint8_t {
  per_node,  // ranks of a node share memory: one copy for all of them (CPU ranks)
  per_rank,  // every rank has memory of its own (GPUs)
};
std::string_view to_string(Copies copies);

// The values that settings can have, for command lines and files.
inline constexpr Copies kCopies[] = {Copies::per_node, Copies::per_rank};
inline constexpr ReduceMode kReduceModes[] = {ReduceMode::tree, ReduceMode::fast, ReduceMode::mpi};
inline constexpr DType kStorageDTypes[] = {DType::f32, DType::bf16};  // of sums of gradients, and of activations

// The work of a step, of the whole model and all ranks together, as far as it is known; zero: not known.
struct Workload {
  int64_t batch = 0;                            // samples of a step
  int64_t activation_bytes_per_sample = 0;      // kept from forward to backward
  int64_t model_parallel_bytes_per_sample = 0;  // activations that are summed over the axes that split parameters
  double flops_per_sample = 0;
  friend bool operator==(const Workload&, const Workload&) = default;
};

struct PlanSettings {
  std::vector<MeshAxis> mesh = {};            // empty: one rank
  std::string batch_axis = {};                // empty: the axis called data or batch, otherwise the first
  std::vector<LayoutRule> layout_rules = {};  // in the order they were given
  std::string optimizer = {};                 // the planner fills it in
  ReduceMode reduce = ReduceMode::tree;
  DType reduce_dtype = DType::f32;  // dtype in which gradients are summed and sent
  DType activations = DType::f32;   // dtype in which language models keep activations and their gradients
  int virtual_ranks = 0;     // parts of a batch in mode tree; 0: one for each rank of the batch axis, as plans say
  int zero = 0;              // ZeRO stage: 1 splits slots over the batch axis, 2 also gradients, 3 also parameters
  int64_t accumulation = 1;  // micro-batches of a step
  int64_t bucket_bytes = 0;  // of gradients; a bucket closes when it holds this much. 0: complete() chooses
  int64_t first_bucket_bytes = 0;  // the same for the bucket that is reduced first; 0: as large as the others
  Copies copies = Copies::per_node;
  int64_t ranks_per_node = 0;          // consecutive ranks on a node; 0: all on one
  bool replicate_indivisible = false;  // when a layout rule does not divide a dimension: replicate and warn, or fail
  int sums = 1;                        // the most named sums that a step reports beside the loss
  bool stochastic_rounding = false;    // bf16 parameters are updated in place and rounded so, without f32 masters
  Workload workload = {};

  int64_t ranks() const;
  int64_t size(std::string_view axis) const;
  int64_t batch_ranks() const { return size(batch_axis); }
  // How many parts a batch is cut into.
  int parts() const { return reduce == ReduceMode::tree && virtual_ranks > 0 ? virtual_ranks : int(batch_ranks()); }
};

// Returns mesh, batch axis and layout rules as a distribution. Throws Error(plan) like model_parallel().
Distribution distribution_of(const PlanSettings& settings);

// Checks what was asked and fills in the batch axis, the virtual ranks and the size of buckets; `distribution` is
// distribution_of() it.
// Throws Error(plan), and Error(usage) for a dtype that gradients cannot be reduced in.
PlanSettings complete(PlanSettings asked, const Distribution& distribution);

// Whether the description of a run tells a field. It tells those that decide the numbers, and no others.
enum class InRun : uint8_t { never, unless_default, always };

struct SettingField {
  const char* name;  // as in files; people read it with spaces
  InRun in_run = InRun::never;
  int64_t least = 0, most = std::numeric_limits<int64_t>::max();  // bounds of a whole number
};

// Calls visit(SettingField, value) for every field. `settings` may be const.
template <class Settings, class Visit>
void for_each_field(Settings& settings, const Visit& visit) {
  constexpr int64_t kMostSamples = int64_t(1) << 48;
  visit(SettingField{"mesh"}, settings.mesh);
  visit(SettingField{"batch_axis"}, settings.batch_axis);
  visit(SettingField{"optimizer"}, settings.optimizer);
  visit(SettingField{"reduce", InRun::always}, settings.reduce);
  visit(SettingField{"reduce_dtype", InRun::unless_default}, settings.reduce_dtype);
  visit(SettingField{"activations", InRun::unless_default}, settings.activations);
  // A run tells this with the dtype of its weights, as its precision.
  visit(SettingField{"stochastic_rounding"}, settings.stochastic_rounding);
  visit(SettingField{"virtual_ranks", InRun::always}, settings.virtual_ranks);
  visit(SettingField{"zero", InRun::never, 0, 3}, settings.zero);
  visit(SettingField{"accumulation", InRun::unless_default, 1, 1'000'000}, settings.accumulation);
  visit(SettingField{"bucket_bytes"}, settings.bucket_bytes);
  visit(SettingField{"first_bucket_bytes"}, settings.first_bucket_bytes);
  visit(SettingField{"copies"}, settings.copies);
  visit(SettingField{"ranks_per_node"}, settings.ranks_per_node);
  visit(SettingField{"layout_rules"}, settings.layout_rules);
  visit(SettingField{"sums", InRun::never, 0, kMostSums}, settings.sums);
  visit(SettingField{"replicate_indivisible"}, settings.replicate_indivisible);
  visit(SettingField{"batch", InRun::never, 0, kMostSamples}, settings.workload.batch);
  visit(SettingField{"activation_bytes_per_sample"}, settings.workload.activation_bytes_per_sample);
  visit(SettingField{"model_parallel_bytes_per_sample"}, settings.workload.model_parallel_bytes_per_sample);
  visit(SettingField{"flops_per_sample"}, settings.workload.flops_per_sample);
}

// A field in words: "tree", "4194304", "data=8,model=4".
struct SettingText {
  SettingField field;
  std::string value;
  bool is_default;
};
std::vector<SettingText> setting_texts(const PlanSettings& settings);

// Whether the description of a run tells this field among those of one kind.
bool is_told(const SettingText& setting, InRun kind);
// What it tells of fields of one kind, " reduce=tree virtual_ranks=8".
std::string run_text(const PlanSettings& settings, InRun kind);

}  // namespace lockstep
