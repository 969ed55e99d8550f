// SPDX-License-Identifier: Apache-2.0
// Cross-entropy of tokens in blocks of rows, with gradients that take the place of the logits; log-probabilities; and
// what becomes of tokens in a sample. A target below 0 masks its row: no loss, no gradient.
#pragma once

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

// log_sum[r] = log sum over c of exp(logits[r, c]);  loss[r] = log_sum[r] - logits[r, targets[r]], or 0 where masked
struct TokenLoss {
  View loss, log_sum;  // [rows]
  ConstView logits;    // [rows, classes]
  ConstView targets;   // [rows] i32
};
void run(Cpu, Stream&, const TokenLoss&);
void run(Cuda, Stream&, const TokenLoss&);

// logits[r, c] becomes (exp(logits[r, c] - log_sum[r]) - (c == targets[r])) * d_loss[r], or 0 where masked.
struct TokenLossGrad {
  View logits;
  ConstView log_sum, d_loss, targets;
};
void run(Cpu, Stream&, const TokenLossGrad&);
void run(Cuda, Stream&, const TokenLossGrad&);

struct LogSoftmax {  // out[r, c] = logits[r, c] - log sum over k of exp(logits[r, k])
  View out;
  ConstView logits;
};
void run(Cpu, Stream&, const LogSoftmax&);
void run(Cuda, Stream&, const LogSoftmax&);

// d_in[r, c] = d_out[r, c] - exp(out[r, c]) * sum over k of d_out[r, k]
struct LogSoftmaxGrad {
  View d_in;
  ConstView d_out, out;
};
void run(Cpu, Stream&, const LogSoftmaxGrad&);
void run(Cuda, Stream&, const LogSoftmaxGrad&);

struct RowSum {  // out[r] = scale * sum over c of in[r, c]
  View out;      // [rows]
  ConstView in;  // [rows * columns] f32
  float scale = 1;
};
void run(Cpu, Stream&, const RowSum&);
void run(Cuda, Stream&, const RowSum&);

struct SpreadRows {  // out[r, c] = in[r] * scale
  View out;
  ConstView in;  // [rows]
  float scale = 1;
};
void run(Cpu, Stream&, const SpreadRows&);
void run(Cuda, Stream&, const SpreadRows&);

struct CountUnmasked {  // out[r] = how many of targets[r, :] are at least 0
  View out;             // [rows] f32
  ConstView targets;    // [rows * columns] i32
};
void run(Cpu, Stream&, const CountUnmasked&);
void run(Cuda, Stream&, const CountUnmasked&);

}  // namespace lockstep
