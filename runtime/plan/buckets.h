// SPDX-License-Identifier: Apache-2.0
// The sizes of a plan without its texts: how parameters fill buckets, which collectives follow, how many bytes a rank
// holds. The planner writes plans from them, and the search compares thousands of candidates by them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/granule.h"
#include "runtime/plan/plan.h"

namespace lockstep {

constexpr int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Where the next frozen variable, or the next one of the local section, begins after one of `bytes` bytes at `offset`.
constexpr int64_t next_frozen_offset(int64_t offset, int64_t bytes) { return round_up(offset + bytes, 128); }
constexpr int64_t next_local_offset(int64_t offset, int64_t bytes) { return round_up(offset + bytes, 8); }

// How many consecutive ranks of the batch axis each node has, if all have equally many; otherwise 0.
int64_t ranks_of_node(const PlanSettings& settings);

// A trainable variable as buckets see it.
struct BucketItem {
  int64_t elements;  // elements in one rank
  DType dtype;
  bool split_by_batch;
};

// For each variable of a plan, the number of its first granule of kGranule elements among those of all trained
// variables in order of declaration. It depends on neither ranks nor buckets, unlike places in the arena.
std::vector<int64_t> granule_numbers(const Plan& plan);

struct BucketLayout {
  std::vector<PlannedBucket> buckets;  // in the order they are reduced; members are numbers of items
  std::vector<int64_t> offsets;        // place of each item in the arena
  int64_t arena_elements = 0;
};

// Fills buckets in reverse order of the items, which is the order in which gradients become final. A bucket closes when
// it holds bucket_bytes of gradients; padding gives every rank of the batch axis an equal part of it.
BucketLayout fill_buckets(const PlanSettings& settings, std::span<const BucketItem> items);

// Bytes of one rank that are the same in every rank: all but the gradients of copies per node.
struct StateSizes {
  int64_t frozen_bytes = 0;
  int64_t local_bytes = 0;
  int32_t slots = 0;
};
PlannedMemory memory_of(const PlanSettings& settings, const std::vector<PlannedBucket>& buckets,
                        const StateSizes& sizes);

// What one rank holds.
PlannedMemory memory_of_rank(const PlanSettings& settings, const std::vector<PlannedBucket>& buckets,
                             const StateSizes& sizes, int64_t rank);

// The classes of ranks, most bytes first.
std::vector<RankClass> rank_classes(const PlanSettings& settings, const std::vector<PlannedBucket>& buckets,
                                    const StateSizes& sizes);

// The most bytes of activations that a micro-batch keeps in one rank.
int64_t activation_bytes(const PlanSettings& settings);
struct CollectiveSize {
  CollectiveKind kind;
  DType dtype;
  const MeshAxis* axis;
  int64_t bytes;
  Phase phase;
  int32_t bucket;  // -1: belongs to no bucket
  std::string_view what;
};
// Visits the collectives of one step in order: first those of a micro-batch, then those of the step.
void for_each_collective(const PlanSettings& settings, const std::vector<PlannedBucket>& buckets,
                         const std::function<void(const CollectiveSize&)>& visit);

// Fills in what follows from settings, buckets and sizes of sections: classes of ranks, activations, collectives.
void derive_costs(Plan& plan);

}  // namespace lockstep
