// SPDX-License-Identifier: Apache-2.0
// The plan says where the bytes of every variable live, whether the variable is on the tape and in gradient sync, which
// collectives run, and why. It is a pure value: it can be printed, compared, hashed, written as JSON, and computed for
// ranks one does not have, because it is kept per class of ranks and not per rank.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "collectives/collective_record.h"
#include "runtime/plan/plan_settings.h"
#include "runtime/variables/variables.h"

namespace lockstep {

// The section of memory that a variable lives in.
enum class Section : uint8_t {
  trainable,  // the arena of trainable parameters; gradients and slots have arenas with the same element numbers
  frozen,     // parameters that are not trained
  slot,       // one f32 arena per slot of the optimizer
  local,      // bookkeeping: a replica in each rank
};
std::string_view to_string(Section section);

// The questions that every variable is asked; each is answered by itself.
enum class Question : uint8_t { layout, tape, gradient_sync, aggregation, residence };
inline constexpr int kQuestions = 5;
std::string_view to_string(Question question);

enum class Residence : uint8_t {
  each_rank,     // bookkeeping, a replica in each rank: on the host of CPU ranks, on the device of others
  one_per_node,  // one copy that the ranks of a node share
  one_per_rank,  // a copy in each rank
  split,         // each rank of the batch axis holds one part (ZeRO)
};
std::string_view to_string(Residence residence);

struct PlannedVariable {
  // The declaration.
  std::string path;
  Shape shape;
  DType dtype = DType::f32;
  Role role = Role::parameter;
  bool by_optimizer = false;  // declared by the optimizer, otherwise by the model
  bool layout_given = false;  // given by hand
  bool aggregation_given = false;
  int32_t layout_rule = -1;  // index into PlanSettings::layout_rules: the one that matches the path
  int32_t parameter = -1;    // for slots: index of the parameter
  int32_t slot = -1;         // for slots: number among the optimizer's

  // The decisions, and the rule that took each (one per Question).
  Layout layout;
  bool on_tape = false;
  bool in_gradient_sync = false;
  Aggregation aggregation = Aggregation::none;
  Residence residence = Residence::each_rank;
  std::array<std::string_view, kQuestions> rules{};  // ids of standard rules, static

  // The place in memory.
  Section section = Section::local;
  int32_t bucket = -1;         // for variables in gradient sync
  int64_t offset = 0;          // trainable and slot: element of the arena; frozen and local: byte of the section
  int64_t local_elements = 0;  // elements of the part that the layout leaves to one rank

  int64_t local_bytes() const { return local_elements * size_of(dtype); }
};

// Whether the optimizer updates an f32 master of it: a slot, which the variable copies, rounded to nearest.
bool has_master(const PlanSettings& settings, const PlannedVariable& variable);

// Bytes that a rank holds of it: the mean, rounded up, where the variable is split over ranks.
int64_t bytes_per_rank(const PlanSettings& settings, const PlannedVariable& variable);

// Elements [begin, end) of the arena that are reduced together. All members have one dtype.
struct PlannedBucket {
  int64_t begin = 0, end = 0;
  DType dtype = DType::f32;        // dtype of the parameters; arenas of gradients are f32
  bool split_by_batch = false;     // the batch axis splits members' layouts: gathered for use, gradients scattered
  std::vector<int32_t> variables;  // ascending offsets
  int64_t elements() const { return end - begin; }
};

enum class Phase : uint8_t {
  micro_batch,  // once per micro-batch
  step,         // once per step
};
std::string_view to_string(Phase phase);

// The same record that the log of a run enters, so that the two compare as they are; the group is an axis of the mesh.
struct PlannedCollective : CollectiveRecord {
  Phase phase = Phase::step;
  std::string what;
};

// Bytes that stay for the whole run.
struct PlannedMemory {
  int64_t parameters = 0;
  int64_t slots = 0;
  int64_t gradients = 0;  // arenas, and with ZeRO 2 and 3 the buckets in flight
  int64_t scalars = 0;    // bookkeeping of any shape
  int64_t gathered = 0;   // parameters put together for use, where they are split
  int64_t total() const { return parameters + slots + gradients + scalars + gathered; }
  friend bool operator==(const PlannedMemory&, const PlannedMemory&) = default;
};

// Ranks that hold the same number of bytes for each purpose.
struct RankClass {
  int64_t ranks = 0;
  int64_t first_rank = 0;
  bool node_copy = false;  // holds the node's copy of parameters and slots
  PlannedMemory memory;
};

struct Plan {
  PlanSettings settings;
  std::vector<PlannedVariable> variables;  // the model's in order of declaration, then slots, then scalars
  std::vector<std::string> pending;        // variables without a known shape; they are planned when it is
  std::vector<PlannedBucket> buckets;      // in the order they are reduced
  int64_t arena_elements = 0;              // elements of the trainable section, padding included
  int64_t frozen_bytes = 0;
  int64_t local_bytes = 0;
  int32_t slots = 0;                           // arenas of slots, master copies included
  int32_t master_slot = -1;                    // the slot that holds f32 masters of narrow parameters
  std::vector<PlannedCollective> collectives;  // in order within each phase
  std::vector<RankClass> classes;              // most bytes first
  int64_t activation_bytes = 0;                // the most of a micro-batch in one rank; 0: not known
  std::vector<std::string> warnings;

  // The most loaded class.
  const PlannedMemory& memory() const { return classes.front().memory; }
  int64_t parameter_bytes() const;  // bytes of the trainable section
  // Throws Error(plan) naming the nearest known path.
  const PlannedVariable& at(std::string_view path) const;
  // The collectives of one step one by one, with the micro-batch phase repeated.
  std::vector<PlannedCollective> sequence() const;
  // The hash covers the content alone, so equal plans on different ranks and machines have equal hashes.
  uint64_t hash() const;
};

}  // namespace lockstep
