// SPDX-License-Identifier: Apache-2.0
// Chooses a plan. Every point of a declared space is evaluated, so the chosen one is the best of that space.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/plan/forecast.h"
#include "runtime/plan/planner.h"

namespace lockstep {

// The choices. Each list is tried whole.
struct SearchSpace {
  std::vector<std::vector<MeshAxis>> meshes;
  std::vector<int> zero;
  std::vector<int64_t> accumulation;
  std::vector<int64_t> bucket_bytes;
};

// All ways to write `ranks` as a product of sizes of these axes, in order. Throws Error(usage) for more than 10,000.
std::vector<std::vector<MeshAxis>> mesh_factorisations(int64_t ranks, const std::vector<std::string>& axes);

struct Candidate {
  std::vector<MeshAxis> mesh;
  int zero = 0;
  int64_t accumulation = 1;
  int64_t bucket_bytes = 0;
  int64_t bytes = 0;   // bytes of the most loaded rank: what stays, and the activations of a micro-batch
  double seconds = 0;  // forecast of a step
  double exposed_seconds = 0;
};

struct SearchResult {
  std::vector<Candidate> fitting;     // best first
  std::vector<Candidate> too_large;   // fewest bytes first
  std::vector<std::string> excluded;  // meshes for which no plan is possible, with the reason
  int64_t evaluated = 0;
};

// Evaluates all points of `space` for the variables, optimizer and other settings of `input`, whose mesh names the
// axes. The order is by fewest seconds; ties go to the lower ZeRO stage, then to fewer micro-batches, the longer batch
// axis, fewer bytes, the smaller bucket.
SearchResult search_plans(const PlannerInput& input, const SearchSpace& space, int64_t memory_limit,
                          const MachineProfile& profile);

// `input` with the candidate's choices.
PlannerInput planner_input(const PlannerInput& input, const Candidate& candidate);

// Tells a user the best plan, the runners-up and why they lost, or the smallest change that would fit.
std::string search_report(const PlannerInput& input, const SearchSpace& space, const SearchResult& result,
                          int64_t memory_limit, const MachineProfile& profile);

}  // namespace lockstep
