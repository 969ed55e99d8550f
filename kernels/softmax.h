// SPDX-License-Identifier: Apache-2.0
// Softmax cross-entropy against integer labels, with its gradient, and the count of right answers.
#pragma once

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

// probabilities[r, :] = softmax(logits[r, :]);  loss[r] = -log probabilities[r, label[r]]
struct SoftmaxCrossEntropy {
  View loss;           // [rows]
  View probabilities;  // [rows, classes]
  ConstView logits;    // [rows, classes]
  ConstView labels;    // [rows] i32, each in [0, classes)
};
void run(Cpu, Stream&, const SoftmaxCrossEntropy&);
void run(Cuda, Stream&, const SoftmaxCrossEntropy&);

// d_logits[r, c] = (probabilities[r, c] - (c == label[r])) * d_loss[r]
struct SoftmaxCrossEntropyGrad {
  View d_logits;
  ConstView d_loss, probabilities, labels;
};
void run(Cpu, Stream&, const SoftmaxCrossEntropyGrad&);
void run(Cuda, Stream&, const SoftmaxCrossEntropyGrad&);

// correct[r] = 1 when the first greatest logit of row r is its label, else 0.
struct CountCorrect {
  View correct;      // [rows] f32
  ConstView logits;  // [rows, classes]
  ConstView labels;  // [rows] i32
};
void run(Cpu, Stream&, const CountCorrect&);
void run(Cuda, Stream&, const CountCorrect&);

}  // namespace lockstep
