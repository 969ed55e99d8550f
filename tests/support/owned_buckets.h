// SPDX-License-Identifier: Apache-2.0
// Buckets for tests of reducers, with the owners that a plan would give them.
#pragma once

#include <utility>
#include <vector>

#include "collectives/communicator.h"
#include "runtime/plan/owners.h"

namespace lockstep {

inline std::vector<GradientBucket> owned_buckets(const Communicator& ranks, std::vector<GradientBucket> buckets,
                                                 Copies copies = Copies::per_node) {
  const Owners owners(copies, /*zero=*/0, ranks.node_of());
  for (GradientBucket& bucket : buckets) {
    for (int rank = 0; rank < ranks.size(); ++rank) {
      bucket.sums.push_back(owners.sums(bucket.range(), rank));
      bucket.updates.push_back(owners.updates(bucket.range(), rank));
    }
  }
  return buckets;
}

}  // namespace lockstep
