// SPDX-License-Identifier: Apache-2.0
#include "collectives/gradients/bucket_progress.h"

#include <utility>

namespace lockstep {

namespace {

// Checks that buckets follow one another, and that their sums have owners without gap or overlap.
void check_buckets(const std::vector<GradientBucket>& buckets, int64_t elements) {
  int64_t end = 0;
  for (const GradientBucket& bucket : buckets) {
    check(bucket.begin >= end && bucket.end >= bucket.begin && bucket.end <= elements && bucket.members >= 0,
          ErrorCode::plan, [&] {
            return str("bucket '", bucket.name, "' [", bucket.begin, ", ", bucket.end, ") with ", bucket.members,
                       " gradients does not follow the one before it, which ends at ", end, ", within ", elements,
                       " elements");
          });
    end = bucket.end;
    int64_t owned = 0;
    for (const Range& range : bucket.sums) owned += range.size();
    check(owned == bucket.end - bucket.begin && bucket.updates.size() == bucket.sums.size(), ErrorCode::plan, [&] {
      return str("bucket '", bucket.name, "': expected owners of ", bucket.end - bucket.begin, " sums, got owners of ",
                 owned, "; the plan's gradient_buckets() gives them");
    });
  }
}

}  // namespace

BucketProgress::BucketProgress(std::vector<GradientBucket> buckets, int64_t elements, LeafRange own, std::string rank)
    : buckets_(std::move(buckets)),
      own_(own),
      rank_(std::move(rank)),
      next_part_(own.begin),
      missing_(buckets_.size()) {
  check_buckets(buckets_, elements);
  for (const GradientBucket& bucket : buckets_) labels_.push_back(str("bucket '", bucket.name, "'"));
}

void BucketProgress::expect_full(std::string_view caller) const {
  for (size_t b = 0; b < buckets_.size(); ++b) {
    check(missing_[b] == 0, ErrorCode::collective, [&] {
      return str(caller, ": ", labels_[b], " misses ", missing_[b], " of ", buckets_[b].members, " gradients of leaf ",
                 current_part(), " on ", rank_,
                 "; call gradient_ready once per member, also for gradients that are zero");
    });
  }
}

void BucketProgress::begin_part(int leaf) {
  check(leaf == next_part_ && leaf < own_.end, ErrorCode::collective, [&] {
    return str("begin_part: expected leaf ", next_part_, " of [", own_.begin, ", ", own_.end, "), got ", leaf,
               "; leaves come in ascending order and wait() follows the last");
  });
  if (in_step_) expect_full("begin_part");
  in_step_ = true;
  ++next_part_;
  filled_ = 0;
  for (size_t b = 0; b < buckets_.size(); ++b) missing_[b] = buckets_[b].members;
}

void BucketProgress::begin_without_parts() {
  check(own_.size() == 0, ErrorCode::collective,
        [&] { return str("without_parts: this rank owns leaves ", own_.begin, " to ", own_.end - 1); });
  in_step_ = true;
}

bool BucketProgress::gradient_ready(size_t bucket) {
  check(bucket < buckets_.size(), ErrorCode::collective,
        [&] { return str("gradient_ready: bucket ", bucket, " of ", buckets_.size()); });
  check(in_step_ && missing_[bucket] > 0, ErrorCode::collective, [&] {
    return str("gradient_ready: ", labels_[bucket], " has all its ", buckets_[bucket].members,
               " gradients already; each is announced once per leaf");
  });
  return --missing_[bucket] == 0;
}

size_t BucketProgress::advance() {
  const size_t before = filled_;
  while (filled_ < buckets_.size() && missing_[filled_] == 0) ++filled_;
  return filled_ - before;
}

void BucketProgress::end_step() {
  check(in_step_ && next_part_ == own_.end, ErrorCode::collective, [&] {
    return str("wait: this rank owns leaves [", own_.begin, ", ", own_.end, "), but leaf ", next_part_,
               " has not begun");
  });
  expect_full("wait");
  filled_ = 0;
  next_part_ = own_.begin;
  in_step_ = false;
}

}  // namespace lockstep
