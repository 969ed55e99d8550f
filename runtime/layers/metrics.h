// SPDX-License-Identifier: Apache-2.0
// Counts beside the loss: numbers per sample that nothing is differentiated by.
#pragma once

#include "kernels/softmax.h"
#include "kernels/token_loss.h"
#include "runtime/autograd/context.h"

namespace lockstep {

// [samples] f32: 1 where the first of the greatest scores of a sample ([samples, classes]) is that of its label
// ([samples] i32), otherwise 0.
inline Tensor count_correct(Call call, const Tensor& scores, const Tensor& labels) {
  Tensor correct = call.context.empty(labels.shape());
  call.context.launch(CountCorrect{.correct = correct, .logits = scores, .labels = labels});
  return correct;
}

// [samples] f32: how many targets of a sample ([samples, length] i32) are not masked, which those below 0 are.
inline Tensor count_unmasked(Call call, const Tensor& targets) {
  Tensor count = call.context.empty({targets.shape()[0]});
  call.context.launch(CountUnmasked{.out = count, .targets = targets});
  return count;
}

}  // namespace lockstep
