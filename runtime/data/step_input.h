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

// One of the parts that the batch of a step is cut into, by which its sums are ordered. A part without samples is
// allowed: its gradient is zero.
struct BatchPart {
  int number;   // among all parts of the batch
  Batch batch;  // with sample numbers
};

// The global batch of a step, as far as this rank computes it.
struct StepInput {
  int64_t step;          // from 0
  int64_t global_count;  // samples of all parts of all ranks
  std::span<const BatchPart> parts;
};

// A named sum over samples.
struct ReportedSum {
  std::string name;
  double value = 0;       // over the batch of the last step
  double all_steps = 0;   // over all steps that were not skipped for a loss that is none
};

struct StepReport {
  float loss = 0;                 // mean over the global batch, equal bits on every rank
  std::vector<ReportedSum> sums;  // what the model returned by name
  // Whether some gradient was not finite, so that no rank has updated anything, and the first variable it belongs to.
  bool skipped = false;
  std::string_view not_finite;
  // Of all steps so far.
  double loss_sum = 0;  // over samples
  int64_t skipped_sum = 0;
  std::string_view last_not_finite;  // of the last step that was skipped
  double compute_seconds = 0;
  // Waiting for and summing with other ranks, as far as computing does not hide it: on CPU ranks nothing is hidden.
  double communication_seconds = 0;

  // A sum of the last step, or of all steps, by name. Error(usage) naming those there are.
  double sum(std::string_view name) const { return find(name).value; }
  double sum_of_all_steps(std::string_view name) const { return find(name).all_steps; }

 private:
  const ReportedSum& find(std::string_view name) const;
};

}  // namespace lockstep
