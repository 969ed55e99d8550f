// SPDX-License-Identifier: Apache-2.0
// Counts beside the loss: numbers per sample that nothing is differentiated by.
#pragma once

#include "kernels/softmax.h"
#include "runtime/autograd/context.h"

namespace lockstep {

// [samples] f32: 1 where the first of the greatest scores of a sample ([samples, classes]) is that of its label
// ([samples] i32), otherwise 0.
inline Tensor count_correct(Call call, const Tensor& scores, const Tensor& labels) {
  Tensor correct = call.context.empty(labels.shape());
  call.context.launch(CountCorrect{.correct = correct, .logits = scores, .labels = labels});
  return correct;
}

}  // namespace lockstep
