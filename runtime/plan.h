// SPDX-License-Identifier: Apache-2.0
// The plan: where the bytes of every variable live, whether it is on the tape and in gradient sync, which collectives
// run, and why. A pure value: it can be printed, compared by hash and computed for ranks one does not have.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "collectives/device_mesh.h"
#include "runtime/variables.h"

namespace lockstep {

// Which stretch of memory a variable lives in. Sections are flat arrays; a variable is a range of its section.
enum class Section : uint8_t {
  trainable,  // f32 arena of trainable parameters; gradients and slots have arenas with the same offsets
  frozen,     // f32 arena of parameters that are not trained
  slot,       // one f32 arena per declared slot of the optimizer
  scalars,    // 8-byte cells, one replica in every rank
};

// One decision, the rule that took it and the rule's reason: explain() prints these and nothing else.
struct Decision {
  std::string question;  // "layout", "tape", "gradient sync", "aggregation", "residence"
  std::string answer;
  std::string rule;  // stable id such as "S1"
  std::string reason;
};

struct PlannedVariable {
  std::string path;
  Shape shape;
  DType dtype;
  Role role;
  Layout layout;
  bool on_tape;
  bool in_gradient_sync;
  Aggregation aggregation;
  Section section;
  int32_t slot = -1;    // of section slot: which of the optimizer's slots
  int32_t bucket = -1;  // of variables in gradient sync
  int64_t offset;       // elements from the start of the section
  std::vector<Decision> decisions;

  int64_t bytes() const { return shape.size() * size_of(dtype); }
};

// Elements [begin, end) of the gradient arena that are reduced together.
struct PlannedBucket {
  int64_t begin, end;
  std::vector<int32_t> variables;
};

struct PlannedCollective {
  std::string kind;
  DType dtype;
  std::string group;  // mesh axis
  int64_t bytes;      // of the whole operand
  std::string what;
};

// Bytes that stay for the whole run.
struct PlannedMemory {
  int64_t parameters;  // one copy for all ranks of a node
  int64_t slots;       // one copy for all ranks of a node
  int64_t gradients;   // in the rank that holds most: one arena for every leaf sum that waits for its sibling
  int64_t scalars;     // in each rank
};

struct Plan {
  std::vector<MeshAxis> mesh;
  std::string optimizer;
  std::string reduce;
  int virtual_ranks;
  std::vector<PlannedVariable> variables;  // the model's in order of declaration, then slots, then scalars
  std::vector<PlannedBucket> buckets;      // in the order they are reduced
  int64_t arena_elements;                  // of the trainable section, padding included
  int64_t frozen_elements;
  std::vector<PlannedCollective> collectives;  // of one step, in order
  PlannedMemory memory;
  std::vector<std::string> warnings;

  // Throws Error(plan) naming the nearest known paths.
  const PlannedVariable& at(std::string_view path) const;
  // Over the content alone, so equal plans on different ranks and machines have equal hashes.
  uint64_t hash() const;
  std::string to_json() const;
  // The decisions on one variable, for people.
  std::string explain(std::string_view path) const;
  // One row per variable, for people.
  std::string table() const;
};

}  // namespace lockstep
