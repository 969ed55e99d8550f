// SPDX-License-Identifier: Apache-2.0
// Parts of a batch with the two columns that most tests have: "inputs" (f32) and "labels" (i32).
#pragma once

#include "runtime/data/step_input.h"
#include "runtime/step/memory_rehearsal.h"

namespace lockstep {

inline BatchPart labelled_part(int number, const ConstView& inputs, const ConstView& labels,
                               const ConstView& sample_ids) {
  return {number, Batch({{"inputs", inputs}, {"labels", labels}}, sample_ids)};
}

// The shape of such a part.
inline PartShape labelled_shape(const Shape& sample, int64_t samples) {
  return {{{"inputs", DType::f32, sample}, {"labels", DType::i32, {}}}, samples};
}

}  // namespace lockstep
