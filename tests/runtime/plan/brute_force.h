// SPDX-License-Identifier: Apache-2.0
// A second opinion on plans: every rank by itself, with its coordinates, its shards as ranges of indices and its groups
// as sets of ranks. Shares no code with the planner, its rules or check_plan, and costs as much as there are ranks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/plan/planner.h"

namespace lockstep {

// What is wrong with the plan that was made from `input`, beginning with the invariant ("I4: ..."), or "" for nothing.
// Layout rules may use no regular expressions but ".*".
std::string brute_force(const PlannerInput& input, const Plan& plan);

// The ranks of a plan one by one.
struct World {
  explicit World(const PlanSettings& settings);

  std::vector<MeshAxis> mesh;
  size_t batch_axis = 0;  // index in mesh
  int ranks = 1;
  int parts = 1;  // of a batch: ranks of the batch axis
  int at(int rank, size_t axis) const { return coordinates[size_t(rank) * mesh.size() + axis]; }
  size_t find(std::string_view axis) const;  // mesh.size() for an unknown one
  // Ranks that differ from `rank` on this axis alone, itself included, ascending.
  std::vector<int> group(int rank, size_t axis) const;

  std::vector<int> coordinates;
};

// Parts of brute_force(), each throwing Violation.
struct Violation {
  std::string what;
};
template <class Message>
void expect_that(bool holds, Message&& message) {
  if (!holds) throw Violation{message()};
}
// Layout, tape, gradient sync, aggregation, residence and shards of every variable, and that all are there.
void expect_variables(const PlannerInput& input, const Plan& plan, const World& world);
// Where everything lies.
void expect_places(const Plan& plan, const World& world);
// Which collectives every rank takes part in.
void expect_collectives(const Plan& plan, const World& world);
// The bytes of every rank.
void expect_memory(const PlannerInput& input, const Plan& plan, const World& world);

}  // namespace lockstep
