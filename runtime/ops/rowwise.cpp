// SPDX-License-Identifier: Apache-2.0
#include "kernels/layer_norm.h"
#include "kernels/pointwise.h"
#include "kernels/reduction.h"
#include "kernels/softmax.h"
#include "runtime/ops/ops.h"

namespace lockstep {

Tensor layer_norm(Call call, const Tensor& x, const Tensor& gain, const Tensor& shift, float epsilon) {
  const Shape& shape = x.shape();
  check(shape.rank() >= 1 && gain.shape() == Shape{shape[shape.rank() - 1]} && shift.shape() == gain.shape(),
        ErrorCode::plan, [&] {
          return str("layer_norm: expected gain and shift of the last dimension of ", to_string(shape), ", got ",
                     to_string(gain.shape()), " and ", to_string(shift.shape()));
        });
  const int64_t columns = gain.size(), rows = columns > 0 ? x.size() / columns : 0;
  Tensor y = call.context.empty_like(x);
  Tensor mean = call.context.empty({rows}), rstd = call.context.empty({rows});
  call.context.launch(
      LayerNorm{.out = y, .mean = mean, .rstd = rstd, .in = x, .gain = gain, .shift = shift, .epsilon = epsilon});
  call.record(
      "layer_norm", {x.position(), gain.position(), shift.position()}, y,
      [x, gain, mean, rstd, rows, columns](Context& context, Gradients& grad) {
        ConstView d_out = grad.out();
        d_out.shape = Shape{rows, columns};
        if (grad.wanted(2)) context.launch(ColumnSum{.out = grad.in(2), .in = d_out});
        if (grad.wanted(1))
          context.launch(LayerNormGradGain{.d_gain = grad.in(1), .d_out = d_out, .in = x, .mean = mean, .rstd = rstd});
        if (!grad.wanted(0)) return;
        const auto [d_in, holds] = grad.accumulator(0);
        context.launch(LayerNormGradInput{
            .d_in = d_in, .d_out = d_out, .in = x, .gain = gain, .mean = mean, .rstd = rstd, .accumulate = holds});
      });
  return y;
}

Tensor softmax_cross_entropy(Call call, const Tensor& logits, const Tensor& labels) {
  check(logits.shape().rank() == 2 && labels.shape() == Shape{logits.shape()[0]} && labels.dtype() == DType::i32,
        ErrorCode::plan, [&] {
          return str("softmax_cross_entropy: expected logits [rows, classes] and labels i32 [rows], got ",
                     to_string(logits.shape()), " and ", to_string(labels.dtype()), " ", to_string(labels.shape()));
        });
  Tensor loss = call.context.empty({logits.shape()[0]});
  Tensor probabilities = call.context.empty_like(logits);
  call.context.launch(
      SoftmaxCrossEntropy{.loss = loss, .probabilities = probabilities, .logits = logits, .labels = labels});
  call.record("softmax_cross_entropy", {logits.position()}, loss,
              [probabilities, labels](Context& context, Gradients& grad) {
                context.launch(SoftmaxCrossEntropyGrad{
                    .d_logits = grad.in(0), .d_loss = grad.out(), .probabilities = probabilities, .labels = labels});
              });
  return loss;
}

Tensor mean(Call call, const Tensor& x) {
  check(x.size() > 0, ErrorCode::plan,
        [&] { return str("mean: expected at least one element, got shape ", to_string(x.shape())); });
  Tensor y = call.context.empty({});
  const float scale = 1 / float(x.size());
  call.context.launch(Sum{.out = y, .in = x, .scale = scale});
  call.record("mean", {x.position()}, y, [scale](Context& context, Gradients& grad) {
    context.launch(Spread{.out = grad.in(0), .value = grad.out(), .scale = scale});
  });
  return y;
}

}  // namespace lockstep
