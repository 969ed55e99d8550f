// SPDX-License-Identifier: Apache-2.0
// Batches of labelled images for the next steps, prepared while the current one is trained on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/data/aligned_vector.h"
#include "runtime/data/dataset.h"
#include "runtime/data/prefetcher.h"
#include "runtime/data/sample_order.h"

namespace lockstep {

// The samples of one part of a batch.
struct ImagePart {
  int64_t number = 0;
  int64_t count = 0;               // may be 0 in a partial batch
  AlignedVector<float> images;     // [count, height, width], 0 to 1
  AlignedVector<int32_t> labels;   // [count]
  AlignedVector<int64_t> samples;  // [count], index in the data set, which keys dropout
};

struct ImageBatch {
  int64_t step = 0;
  int64_t epoch = 0;
  int64_t global_count = 0;  // samples of all parts of all ranks: the divisor of the mean loss
  std::vector<ImagePart> parts;
  uint64_t data_hash = 0;  // hash of the global batch's samples in order, so equal on every rank
};

struct LoaderSettings {
  int64_t batch = 0;          // samples of the global batch, over all ranks
  int64_t first_step = 0;     // the position to go on from
  int64_t steps = 0;          // steps [first_step, steps) are handed out
  int64_t batches_ahead = 0;  // step s takes batch s + batches_ahead, counted over all epochs; below 0: behind
  uint64_t seed = 0;
  bool shuffle = true;  // otherwise each epoch is in the order of the data set
  int64_t virtual_ranks = 1;
  int64_t first_part = 0;  // this rank prepares parts [first_part, end_part) of the virtual_ranks
  int64_t end_part = 1;
  int64_t prefetch = 2;  // batches prepared ahead of the one in use
};

// Hands out steps settings.first_step, ... settings.steps - 1. Memory is bounded by prefetch + 1 batches and reused.
// `images` must outlive the loader and not change. One thread calls next().
class BatchLoader {
 public:
  BatchLoader(const Images& images, const LoaderSettings& settings);

  // The batch is valid until the following next(). Throws what the thread threw, at the step it was thrown for.
  const ImageBatch& next() { return prefetcher_.next(); }

 private:
  void prepare(ImageBatch& batch, int64_t step);
  void fill(ImagePart& part, const int64_t* samples, int64_t count) const;

  const Images& images_;
  const LoaderSettings settings_;
  EpochOrder order_;  // only the prefetcher's thread touches it
  Prefetcher<ImageBatch> prefetcher_;
};

}  // namespace lockstep
