// SPDX-License-Identifier: Apache-2.0
// What goes into a training step and what comes out of it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/batch.h"

namespace lockstep {

// One of the parts that the batch of a step is cut into; they set the order of its sums. A part may have no samples;
// its gradient is zero then.
struct BatchPart {
  int number;   // number among all parts of the batch
  Batch batch;  // includes sample numbers
};

// The part of a step's global batch that this rank computes.
struct StepInput {
  int64_t step;          // counted from 0
  int64_t global_count;  // samples of all parts of all ranks
  std::span<const BatchPart> parts;
};

// A named sum over samples.
struct ReportedSum {
  std::string name;
  double value = 0;      // over the batch of the last step
  double all_steps = 0;  // over all steps before the first whose loss was not finite
};

struct StepReport {
  float loss = 0;                 // mean over the global batch, equal bits on every rank
  std::vector<ReportedSum> sums;  // sums that the model returned by name
  // Whether some gradient was not finite, so that no rank has updated anything, and the first variable it belongs to.
  bool skipped = false;
  std::string_view not_finite;
  // On CPU ranks, of the first of several such steps and without a loss scale: the op that the first number which is
  // not finite came from, with rank, part and samples, in words.
  std::string origin;
  // Over all steps so far.
  double loss_sum = 0;  // over samples
  int64_t skipped_sum = 0;
  std::string_view last_not_finite;  // of the last step that was skipped
  double compute_seconds = 0;
  // Waiting for and summing with other ranks, where computing does not hide it; nothing hides it on CPU ranks.
  double communication_seconds = 0;

  // A sum of the last step, or of all steps, by name. Error(usage) names those that exist.
  double sum(std::string_view name) const { return find(name).value; }
  double sum_of_all_steps(std::string_view name) const { return find(name).all_steps; }

 private:
  const ReportedSum& find(std::string_view name) const;
};

}  // namespace lockstep
