// SPDX-License-Identifier: Apache-2.0
// Rehearses one part of a training batch: the model's own forward and backward run on memory that is only counted, with
// kernels that are not run. It tells, to the byte and before anything is allocated, what the part will need.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/step/train_step.h"
#include "runtime/variables/variables.h"

namespace lockstep {

// The input of a part's forward pass.
struct PartShape {
  std::vector<ColumnShape> columns;
  int64_t samples = 0;  // may be 0: such a part runs nothing
  int64_t micro_batches = 1;
  DType activations = DType::f32;
};
// The columns of a batch, with other numbers of samples and micro-batches.
PartShape shape_of(const Batch& batch, int64_t samples, int64_t micro_batches = 1);

// Bytes that come and go with a part. They do not include the caller's batch, variables and gradients, the tape's
// records, and what libraries allocate inside their calls (Note [Scratch] in kernels/launch.h).
struct TransientMemory {
  int64_t activations = 0;  // peak of the ledger, bytes asked for
  int64_t held = 0;         // what a fresh pool has taken from the device for them by the end: never less
  int64_t scratch = 0;      // held by the stream for its kernels
  friend bool operator==(const TransientMemory&, const TransientMemory&) = default;
};

// Rehearses on CPU ranks with `threads` threads. `forward` must leave numbers to kernels: one that reads an element of
// a tensor on the host ends the program with a segmentation fault, because there is no memory. Throws what `forward`
// throws, and Error(tape) when the loss reaches no trainable variable.
// `groups` are the axes that ops reach over, for which MeshGroup::rehearsal() is enough; null: one rank.
TransientMemory rehearse_part(const VariableTable& variables, const Forward& forward, const PartShape& shape,
                              int threads, const std::vector<MeshGroup>* groups = nullptr);

}  // namespace lockstep
