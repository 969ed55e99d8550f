// SPDX-License-Identifier: Apache-2.0
#include "kernels/layer_norm.h"
#include "kernels/pointwise.h"
#include "kernels/reduction.h"
#include "kernels/softmax.h"
#include "runtime/ops/ops.h"

namespace lockstep {

namespace {

void check_norm(const Tensor& x, const Tensor& gain, const Tensor& shift) {
  const Shape& shape = x.shape();
  check(shape.rank() >= 1 && gain.shape() == Shape{shape[shape.rank() - 1]} && shift.shape() == gain.shape(),
        ErrorCode::plan, [&] {
          return str("layer_norm: expected gain and shift of the last dimension of ", to_string(shape), ", got ",
                     to_string(gain.shape()), " and ", to_string(shift.shape()));
        });
}

// The kernel for a norm of x, and memory for its results.
struct NormOfRows {
  Tensor x, gain, shift, y, mean, rstd;
  int64_t columns, rows;
  float epsilon;

  NormOfRows(Context& context, const Tensor& in, const Tensor& g, const Tensor& s, float e)
      : x(in),
        gain(g),
        shift(s),
        y(context.empty_like(in)),
        columns(g.size()),
        rows(columns > 0 ? in.size() / columns : 0),
        epsilon(e) {
    mean = context.empty({rows});
    rstd = context.empty({rows});
  }

  LayerNorm kernel() const {
    return {.out = y, .mean = mean, .rstd = rstd, .in = x, .gain = gain, .shift = shift, .epsilon = epsilon};
  }

  Tensor recorded(const Call& call) {
    call.record(
        "layer_norm", {x.position(), gain.position(), shift.position()}, y,
        [x = x, gain = gain, mean = mean, rstd = rstd, rows = rows, columns = columns](Context& context,
                                                                                       Gradients& grad) {
          ConstView d_out = grad.out();
          d_out.shape = Shape{rows, columns};
          if (grad.wanted(2)) context.launch(ColumnSum{.out = grad.in(2), .in = d_out});
          if (grad.wanted(1))
            context.launch(
                LayerNormGradGain{.d_gain = grad.in(1), .d_out = d_out, .in = x, .mean = mean, .rstd = rstd});
          if (!grad.wanted(0)) return;
          const auto [d_in, holds] = grad.accumulator(0);
          context.launch(LayerNormGradInput{
              .d_in = d_in, .d_out = d_out, .in = x, .gain = gain, .mean = mean, .rstd = rstd, .accumulate = holds});
        });
    return y;
  }
};

}  // namespace

Tensor layer_norm(Call call, const Tensor& x, const Tensor& gain, const Tensor& shift, float epsilon) {
  check_norm(x, gain, shift);
  NormOfRows norm(call.context, x, gain, shift, epsilon);
  call.context.launch(norm.kernel());
  return norm.recorded(call);
}

SumAndNorm add_layer_norm(Call call, const Tensor& x, const Tensor& y, const Tensor& gain, const Tensor& shift,
                          float epsilon) {
  check_alike("add_layer_norm", x, y);
  check_norm(x, gain, shift);
  NormOfRows norm(call.context, call.context.empty_like(x), gain, shift, epsilon);
  call.context.launch(AddLayerNorm{.sum = norm.x, .a = x, .b = y, .norm = norm.kernel()});
  record_sum(call, x, y, norm.x);
  return {norm.x, norm.recorded(call)};
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
