// SPDX-License-Identifier: Apache-2.0
// Turns a prepared part of a batch of tokens into what a model is given: columns "tokens" and "targets", [samples, T]
// i32.
#pragma once

#include "runtime/data/step_input.h"
#include "runtime/data/tokens/token_loader.h"

namespace lockstep {

// Views of `part`, which must outlive them, of samples of `sequence_length` tokens.
inline Batch token_batch(const TokenPart& part, int64_t sequence_length) {
  const Shape shape{part.count, sequence_length};
  return Batch({{"tokens", ConstView{part.tokens.data(), DType::i32, DeviceKind::cpu, shape}},
                {"targets", ConstView{part.targets.data(), DType::i32, DeviceKind::cpu, shape}}},
               {part.samples.data(), DType::i64, DeviceKind::cpu, Shape{part.count}});
}

// The same as a part of a training step.
inline BatchPart token_part(const TokenPart& part, int64_t sequence_length) {
  return {.number = int(part.number), .batch = token_batch(part, sequence_length)};
}

}  // namespace lockstep
