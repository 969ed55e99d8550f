// SPDX-License-Identifier: Apache-2.0
// Owners says who owns which elements: it is the one place that cuts arenas among ranks. Reducers, updates, the
// variable store and the forecast of memory all ask it, so ranks with a shared copy per node and every ZeRO stage are
// rows of one table.
//
//   copies    ZeRO   a rank adds up             a rank updates           a rank holds of its own
//   per node    0    a slice of its node's sum  a slice of the node's    the node's first rank: everything
//   per rank    0    1/N of a bucket            everything               everything
//   per rank   1-3   1/N of a bucket            what it adds up          1/N of slots, gradients (2), parameters (3)
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "collectives/gradients/gradient_reducer.h"
#include "collectives/partition.h"
#include "runtime/plan/plan.h"

namespace lockstep {

// The three arenas with the same element numbers.
enum class Arena : uint8_t { parameters, gradients, slots };

class Owners {
 public:
  // The ranks of the batch axis; `node_of` gives the node of each, and nodes are numbered by their lowest rank.
  Owners(Copies copies, int zero, std::span<const int> node_of);

  // The elements of a bucket that `rank` adds up over the whole batch. Every element belongs to one such rank.
  Range sums(Range bucket, int rank) const;
  // The elements whose parameters and slots `rank` updates. Where the ranks of a node share a copy, they cover the
  // bucket once; where each rank has a copy, every rank covers it, or all of them do together (ZeRO).
  Range updates(Range bucket, int rank) const;

 private:
  Copies copies_;
  int zero_;
  std::vector<int> node_of_;
  std::vector<int> local_rank_;  // by rank: its number among the ranks of its node
  std::vector<int> ranks_of_;    // by node
  int lanes_;                    // ranks of the smallest node; that many exchange sums with other nodes
};

// The elements of a bucket that one rank holds in `arena`: all of them, or the part that ZeRO leaves to each rank of
// the batch axis.
int64_t held_elements(const PlanSettings& settings, const PlannedBucket& bucket, Arena arena);

// The buckets of a plan as reducers take them, with their owners among the ranks of the batch axis.
std::vector<GradientBucket> gradient_buckets(const Plan& plan, std::span<const int> node_of);

// Merges the ranges [begin, end) of the arena that `rank` updates, in ascending order, where one follows another in one
// dtype: each result is one launch.
std::vector<Range> updated_ranges(const Plan& plan, std::span<const GradientBucket> buckets, int rank);

}  // namespace lockstep
