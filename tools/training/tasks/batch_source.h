// SPDX-License-Identifier: Apache-2.0
// Batches for the loop of training steps and for evaluation, whatever is in them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "runtime/data/prefetch.h"
#include "runtime/data/step_input.h"
#include "runtime/data/tokens/token_dataset.h"

namespace lockstep {

struct StepBatch {
  int64_t step = 0;
  int64_t epoch = 0;
  int64_t global_count = 0;          // samples of all parts of all ranks
  uint64_t data_hash = 0;            // of the global batch, so equal on every rank
  std::span<const BatchPart> parts;  // this rank's
};

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // The batch is valid until the following next(). Throws what reading it threw.
  virtual StepBatch next() = 0;
};

// Steps settings.first_step, ... settings.steps - 1 of a data set, which outlives the source.
std::unique_ptr<BatchSource> image_batches(const Images& images, const LoaderSettings& settings);
std::unique_ptr<BatchSource> token_batches(const TokenDataset& tokens, const LoaderSettings& settings);

}  // namespace lockstep
