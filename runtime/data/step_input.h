// SPDX-License-Identifier: Apache-2.0
// What goes into a training step and what comes out of it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "runtime/autograd/context.h"
#include "runtime/autograd/tensor.h"

namespace lockstep {

// The samples of one leaf. A leaf without samples is allowed: its gradient is zero.
struct LeafInput {
  int leaf;
  ConstView inputs;      // [samples, ...] f32
  ConstView labels;      // [samples] i32
  ConstView sample_ids;  // [samples] i64, global
};

// The global batch of a step, as far as this rank computes it.
struct StepInput {
  int64_t step;          // from 0
  int64_t global_count;  // samples of all leaves of all ranks
  std::span<const LeafInput> leaves;
};

// What a model returns for a leaf, one element per sample.
struct SampleResults {
  Tensor loss;     // [samples], on the tape
  Tensor correct;  // [samples], 1 where the answer is right
};
using Forward = std::function<SampleResults(Context&, const LeafInput&)>;

struct StepReport {
  float loss = 0;       // mean over the global batch, equal bits on every rank
  int64_t correct = 0;  // right answers of the global batch
  // Whether some gradient was not finite, so that no rank has updated anything, and the first variable it belongs to.
  bool skipped = false;
  std::string_view not_finite;
  // Of all steps so far.
  double loss_sum = 0;  // over samples
  int64_t correct_sum = 0;
  int64_t skipped_sum = 0;
  std::string_view last_not_finite;  // of the last step that was skipped
  double compute_seconds = 0;
  // Waiting for and summing with other ranks, as far as computing does not hide it: on CPU ranks nothing is hidden.
  double communication_seconds = 0;
};

}  // namespace lockstep
