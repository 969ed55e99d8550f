// SPDX-License-Identifier: Apache-2.0
// Which samples a step trains on, and how a batch is cut into parts. These are pure functions of their arguments:
// nothing here knows ranks, threads or what ran before.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lockstep {

// Fills `order` with a permutation of 0 .. order.size() - 1 that depends on (seed, epoch) alone. It is uniform:
// Fisher-Yates with unbiased draws from Philox. Takes up to 2^32 - 1 samples.
void shuffle_samples(uint64_t seed, int64_t epoch, std::span<int64_t> order);

// The order of samples in an epoch, kept until another epoch is asked for.
class EpochOrder {
 public:
  // Without `shuffle` every epoch is in the order of the data.
  EpochOrder(int64_t samples, uint64_t seed, bool shuffle) : seed_(seed), shuffle_(shuffle), order_(size_t(samples)) {}
  std::span<const int64_t> of(int64_t epoch);

 private:
  uint64_t seed_;
  bool shuffle_;
  std::vector<int64_t> order_;  // of epoch_
  int64_t epoch_ = -1;
};

// Places [begin, end) in the order of an epoch, or in a batch.
struct SampleRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t count() const { return end - begin; }
  friend bool operator==(const SampleRange&, const SampleRange&) = default;
};

// The last batch of an epoch may be partial; it is trained on with its own smaller weight, never dropped.
int64_t steps_per_epoch(int64_t samples, int64_t batch);

struct BatchPlace {
  int64_t epoch = 0;
  SampleRange positions;  // in the order of that epoch
};
BatchPlace batch_at(int64_t step, int64_t samples, int64_t batch);

// Part number `part` of a batch of `count` samples that is cut into `parts`. The sizes of parts differ by one sample at
// most; a batch with fewer samples than parts leaves some of them empty.
SampleRange part_range(int64_t count, int64_t parts, int64_t part);

}  // namespace lockstep
