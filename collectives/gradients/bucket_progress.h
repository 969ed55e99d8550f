// SPDX-License-Identifier: Apache-2.0
// Knows, bucket by bucket, which gradients of the current leaf are final. Shared by the reducers on the host and on
// GPUs. Internal to collectives/.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "collectives/gradients/gradient_reducer.h"
#include "collectives/gradients/tree_sum.h"

namespace lockstep {

class BucketProgress {
 public:
  // `own` are the leaves of this rank; `rank` is its name in messages. Error(plan) for buckets that do not follow one
  // another within `elements`.
  BucketProgress(std::vector<GradientBucket> buckets, int64_t elements, LeafRange own, std::string rank);

  size_t size() const { return buckets_.size(); }
  const GradientBucket& operator[](size_t bucket) const { return buckets_[bucket]; }
  const std::string& label(size_t bucket) const { return labels_[bucket]; }  // for messages
  LeafRange own() const { return own_; }
  int current_part() const { return next_part_ - 1; }
  bool in_step() const { return in_step_; }
  // Whether the current leaf is the last one of this rank.
  bool last_part() const { return next_part_ >= own_.end; }

  // Leaves come in ascending order, each after all gradients of the one before, or else Error(collective).
  void begin_part(int leaf);
  // For a rank without leaves.
  void begin_without_parts();
  // Announces a member of a bucket, once per leaf (else Error(collective)). Returns whether the bucket is now full.
  bool gradient_ready(size_t bucket);
  // Buckets [filled() before, filled()) have become full since the last call, in plan order. Returns how many.
  size_t advance();
  size_t filled() const { return filled_; }
  // Error(collective) names the bucket if a leaf or a gradient is missing; otherwise the next step may begin.
  void end_step();

 private:
  void expect_full(std::string_view caller) const;

  std::vector<GradientBucket> buckets_;
  std::vector<std::string> labels_;
  LeafRange own_;
  std::string rank_;
  int next_part_;
  std::vector<int> missing_;  // one per bucket: gradients of the current leaf still to come
  size_t filled_ = 0;         // buckets of the current leaf that are final, in plan order
  bool in_step_ = false;
};

}  // namespace lockstep
