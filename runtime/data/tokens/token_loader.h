// SPDX-License-Identifier: Apache-2.0
// Batches of tokens for the next steps, prepared while the current one is trained on. Which samples a step has is a
// function of (seed, step) alone, whatever rank asks and whatever ran before.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/data/aligned_vector.h"
#include "runtime/data/prefetcher.h"
#include "runtime/data/sample_order.h"
#include "runtime/data/tokens/token_dataset.h"

namespace lockstep {

// The samples of one part of a batch.
struct TokenPart {
  int64_t number = 0;
  int64_t count = 0;               // may be 0 in a partial batch
  AlignedVector<int32_t> tokens;   // [count, T]
  AlignedVector<int32_t> targets;  // [count, T]: the token behind each
  AlignedVector<int64_t> samples;  // [count], number in the data set, which keys dropout
};

struct TokenBatch {
  int64_t step = 0;
  int64_t epoch = 0;
  int64_t global_count = 0;  // samples of all parts of all ranks: the divisor of the mean loss
  std::vector<TokenPart> parts;
  uint64_t data_hash = 0;  // hash of the global batch's samples in order, so equal on every rank
};

struct TokenLoaderSettings {
  int64_t batch = 0;          // samples of the global batch, over all ranks
  int64_t first_step = 0;     // the position to go on from
  int64_t steps = 0;          // steps [first_step, steps) are handed out
  int64_t batches_ahead = 0;  // step s takes batch s + batches_ahead, counted over all epochs; below 0: behind
  uint64_t seed = 0;
  bool shuffle = true;  // otherwise each epoch is in the order of the data
  int64_t virtual_ranks = 1;
  int64_t first_part = 0;  // this rank prepares parts [first_part, end_part) of the virtual_ranks
  int64_t end_part = 1;
  int64_t prefetch = 2;  // batches prepared ahead of the one in use
};

class TokenLoader {
 public:
  // `data` outlives the loader.
  TokenLoader(const TokenDataset& data, const TokenLoaderSettings& settings);

  // The batch is valid until the following next(). Throws what reading it threw, such as Error(file) for a file that
  // has changed.
  const TokenBatch& next() { return prefetcher_.next(); }

 private:
  void prepare(TokenBatch& batch, int64_t step);

  const TokenDataset& data_;
  const TokenLoaderSettings settings_;
  EpochOrder order_;  // only the prefetcher's thread touches it
  Prefetcher<TokenBatch> prefetcher_;
};

// Samples in a batch of `tokens` tokens. Error(usage) for one that is no multiple of the sequence length names the
// nearest that is.
int64_t samples_of_batch(int64_t tokens, int64_t sequence_length);

}  // namespace lockstep
