// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/owners.h"

#include <algorithm>

#include "kernels/granule.h"

namespace lockstep {
namespace {

// Part `index` of `parts` of a range, cut between granules.
Range cut(Range range, int index, int parts) {
  const Range part = part_of(range.size(), index, parts, kGranule);
  return {range.begin + part.begin, range.begin + part.end};
}

bool is_split(int zero, Arena arena) {
  switch (arena) {
    case Arena::slots:
      return zero >= 1;
    case Arena::gradients:
      return zero >= 2;
    case Arena::parameters:
      return zero >= 3;
  }
  return false;
}

}  // namespace

Owners::Owners(Copies copies, int zero, std::span<const int> node_of)
    : copies_(copies), zero_(zero), node_of_(node_of.begin(), node_of.end()) {
  for (const int node : node_of_) {
    if (size_t(node) >= ranks_of_.size()) ranks_of_.resize(size_t(node) + 1);
    local_rank_.push_back(ranks_of_[size_t(node)]++);
  }
  lanes_ = *std::ranges::min_element(ranks_of_);
}

Range Owners::sums(Range bucket, int rank) const {
  if (copies_ == Copies::per_rank) return cut(bucket, rank, int(node_of_.size()));
  const auto nodes = int(ranks_of_.size());
  if (nodes == 1) return updates(bucket, rank);
  // Ranks of equal number, one on each node, share a lane of the bucket; ranks beyond the smallest node have none.
  if (local_rank_[size_t(rank)] >= lanes_) return {bucket.begin, bucket.begin};
  return cut(cut(bucket, local_rank_[size_t(rank)], lanes_), node_of_[size_t(rank)], nodes);
}

Range Owners::updates(Range bucket, int rank) const {
  if (copies_ == Copies::per_node)
    return cut(bucket, local_rank_[size_t(rank)], ranks_of_[size_t(node_of_[size_t(rank)])]);
  return zero_ == 0 ? bucket : sums(bucket, rank);
}

int64_t held_elements(const PlanSettings& settings, const PlannedBucket& bucket, Arena arena) {
  // A layout that splits the variables of a bucket has already left each rank its part.
  const bool split = is_split(settings.zero, arena) && !bucket.split_by_batch;
  return bucket.elements() / (split ? settings.batch_ranks() : 1);
}

std::vector<GradientBucket> gradient_buckets(const Plan& plan, std::span<const int> node_of) {
  const Owners owners(plan.settings.copies, plan.settings.zero, node_of);
  std::vector<GradientBucket> buckets;
  for (const PlannedBucket& planned : plan.buckets) {
    GradientBucket& bucket = buckets.emplace_back(
        GradientBucket{.begin = planned.begin, .end = planned.end, .members = int(planned.variables.size())});
    for (const int32_t v : planned.variables)
      bucket.name += (bucket.name.empty() ? "" : ", ") + plan.variables[size_t(v)].path;
    for (int rank = 0; rank < int(node_of.size()); ++rank) {
      bucket.sums.push_back(owners.sums({planned.begin, planned.end}, rank));
      bucket.updates.push_back(owners.updates({planned.begin, planned.end}, rank));
    }
  }
  return buckets;
}

std::vector<Range> updated_ranges(const Plan& plan, std::span<const GradientBucket> buckets, int rank) {
  std::vector<Range> ranges;
  for (size_t b = 0; b < buckets.size(); ++b) {
    const Range mine = buckets[b].updates[size_t(rank)];
    if (mine.size() == 0) continue;
    const bool follows = !ranges.empty() && ranges.back().end == mine.begin && mine.begin == buckets[b].begin &&
                         plan.buckets[b - 1].dtype == plan.buckets[b].dtype;
    if (follows)
      ranges.back().end = mine.end;
    else
      ranges.push_back(mine);
  }
  return ranges;
}

}  // namespace lockstep
