// SPDX-License-Identifier: Apache-2.0
#include "runtime/ops/language.h"

#include <algorithm>
#include <vector>

#include "kernels/embedding.h"
#include "kernels/gated.h"
#include "kernels/pointwise.h"
#include "kernels/reduction.h"
#include "kernels/rms_norm.h"
#include "kernels/token_loss.h"

namespace lockstep {
namespace {

// The gradient of positions is the sum over samples; positions beyond the sample's length have none.
void position_gradient(Context& context, const View& d_positions, const ConstView& d_out, int64_t samples) {
  const int64_t used = samples > 0 ? d_out.size() / samples : 0;
  ConstView by_sample = d_out;
  by_sample.shape = {samples, used};
  View first = slice(d_positions, 0, used);
  first.shape = {used};
  context.launch(ColumnSum{.out = first, .in = by_sample});
  if (used < d_positions.size()) context.launch(Fill{slice(d_positions, used, d_positions.size()), 0.0f});
}

void table_gradient(Context& context, Gradients& grad, const Tensor& tokens) {
  const auto [d_table, holds] = grad.accumulator(0);
  context.launch(EmbedGrad{.d_table = d_table, .d_out = grad.out(), .tokens = tokens, .accumulate = holds});
}

void check_tokens(const Tensor& tokens, const Tensor& table) {
  check(tokens.shape().rank() == 2 && tokens.dtype() == DType::i32 && table.shape().rank() == 2, ErrorCode::plan, [&] {
    return str("embedding: expected tokens i32 [samples, length] and a table [entries, width], got ",
               to_string(tokens.dtype()), " ", to_string(tokens.shape()), " and ", to_string(table.shape()));
  });
}

// The kernel for a norm of x, and memory for its results.
struct RmsNormOfRows {
  Tensor x, gain, y, rstd;
  float epsilon;

  RmsNormOfRows(Context& context, const Tensor& in, const Tensor& g, float e)
      : x(in), gain(g), y(context.empty_like(in)), epsilon(e) {
    const Shape& shape = x.shape();
    check(shape.rank() >= 1 && gain.shape() == Shape{shape[shape.rank() - 1]}, ErrorCode::plan, [&] {
      return str("rms_norm: expected a gain of the last dimension of ", to_string(shape), ", got ",
                 to_string(gain.shape()));
    });
    rstd = context.empty({gain.size() > 0 ? x.size() / gain.size() : 0});
  }

  RmsNorm kernel() const { return {.out = y, .rstd = rstd, .in = x, .gain = gain, .epsilon = epsilon}; }

  Tensor recorded(const Call& call) {
    call.record("rms_norm", {x.position(), gain.position()}, y,
                [x = x, gain = gain, rstd = rstd](Context& context, Gradients& grad) {
                  if (grad.wanted(1))
                    context.launch(RmsNormGradGain{.d_gain = grad.in(1), .d_out = grad.out(), .in = x, .rstd = rstd});
                  if (!grad.wanted(0)) return;
                  const auto [d_in, holds] = grad.accumulator(0);
                  context.launch(RmsNormGradInput{
                      .d_in = d_in, .d_out = grad.out(), .in = x, .gain = gain, .rstd = rstd, .accumulate = holds});
                });
    return y;
  }
};

}  // namespace

Tensor embedding(Call call, const Tensor& tokens, const Tensor& table) {
  check_tokens(tokens, table);
  Tensor y = call.context.empty({tokens.size(), table.shape()[1]}, call.context.activations());
  call.context.launch(Embed{.out = y, .tokens = tokens, .table = table});
  call.record("embedding", {table.position()}, y,
              [tokens](Context& context, Gradients& grad) { table_gradient(context, grad, tokens); });
  return y;
}

Tensor embedding(Call call, const Tensor& tokens, const Tensor& table, const Tensor& positions) {
  check_tokens(tokens, table);
  const int64_t samples = tokens.shape()[0], length = tokens.shape()[1];
  check(positions.shape().rank() == 2 && positions.shape()[0] >= length && positions.shape()[1] == table.shape()[1] &&
            positions.dtype() == table.dtype(),
        ErrorCode::plan, [&] {
          return str("embedding: expected at least ", length, " positions of the table's width ", table.shape()[1],
                     " and dtype, got ", to_string(positions.dtype()), " ", to_string(positions.shape()),
                     "; use shorter samples, or a model with a longer block_size");
        });
  Tensor y = call.context.empty({tokens.size(), table.shape()[1]}, call.context.activations());
  call.context.launch(Embed{.out = y, .tokens = tokens, .table = table, .positions = positions, .length = length});
  call.record("embedding", {table.position(), positions.position()}, y,
              [tokens, samples](Context& context, Gradients& grad) {
                if (grad.wanted(1)) position_gradient(context, grad.in(1), grad.out(), samples);
                if (grad.wanted(0)) table_gradient(context, grad, tokens);
              });
  return y;
}

Tensor rms_norm(Call call, const Tensor& x, const Tensor& gain, float epsilon) {
  RmsNormOfRows norm(call.context, x, gain, epsilon);
  call.context.launch(norm.kernel());
  return norm.recorded(call);
}

SumAndNorm add_rms_norm(Call call, const Tensor& x, const Tensor& y, const Tensor& gain, float epsilon) {
  check_alike("add_rms_norm", x, y);
  RmsNormOfRows norm(call.context, call.context.empty_like(x), gain, epsilon);
  call.context.launch(AddRmsNorm{.sum = norm.x, .a = x, .b = y, .norm = norm.kernel()});
  record_sum(call, x, y, norm.x);
  return {norm.x, norm.recorded(call)};
}

Tensor rotary(Call call, const Tensor& x, const RotaryGeometry& geometry) {
  const bool fits = geometry.length > 0 && geometry.head_size > 0 && geometry.head_size % 2 == 0 &&
                    geometry.theta >= 1 && x.shape().rank() == 2 && x.shape()[0] % geometry.length == 0 &&
                    x.shape()[1] % geometry.head_size == 0;
  check(fits, ErrorCode::plan, [&] {
    return str("rotary: expected [samples * ", geometry.length, ", heads * ", geometry.head_size,
               "], heads of an even size, and a theta of at least 1, got ", to_string(x.shape()), " and ",
               geometry.theta);
  });
  Tensor y = call.context.empty_like(x);
  call.context.launch(Rotate{.out = y, .in = x, .geometry = geometry});
  call.record("rotary", {x.position()}, y, [geometry](Context& context, Gradients& grad) {
    context.launch(Rotate{.out = grad.in(0), .in = grad.out(), .geometry = geometry, .inverse = true});
  });
  return y;
}

Tensor swiglu(Call call, const Tensor& gate, const Tensor& up) {
  check(gate.shape() == up.shape(), ErrorCode::plan, [&] {
    return str("swiglu: expected two tensors of one shape, got ", to_string(gate.shape()), " and ",
               to_string(up.shape()));
  });
  Tensor y = call.context.empty_like(gate);
  call.context.launch(SwiGlu{.out = y, .gate = gate, .up = up});
  call.record("swiglu", {gate.position(), up.position()}, y, [gate, up](Context& context, Gradients& grad) {
    const Tensor unwanted = grad.wanted(0) && grad.wanted(1) ? Tensor() : context.empty_like(gate);
    context.launch(SwiGluGrad{.d_gate = grad.wanted(0) ? grad.in(0) : View(unwanted),
                              .d_up = grad.wanted(1) ? grad.in(1) : View(unwanted),
                              .d_out = grad.out(),
                              .gate = gate,
                              .up = up});
  });
  return y;
}

Tensor log_softmax(Call call, const Tensor& logits) {
  check(logits.shape().rank() == 2, ErrorCode::plan,
        [&] { return str("log_softmax: expected [rows, classes], got ", to_string(logits.shape())); });
  Tensor y = call.context.empty_like(logits);
  call.context.launch(LogSoftmax{.out = y, .logits = logits});
  call.record("log_softmax", {logits.position()}, y, [kept = y](Context& context, Gradients& grad) {
    context.launch(LogSoftmaxGrad{.d_in = grad.in(0), .d_out = grad.out(), .out = kept});
  });
  return y;
}

Tensor sample_means(Call call, const Tensor& x, int64_t samples) {
  check(samples > 0 && x.size() > 0 && x.size() % samples == 0, ErrorCode::plan, [&] {
    return str("sample_means: expected equally many elements for each of ", samples, " samples, got ",
               to_string(x.shape()));
  });
  Tensor y = call.context.empty({samples});
  const float scale = 1 / float(x.size() / samples);
  call.context.launch(RowSum{.out = y, .in = x, .scale = scale});
  call.record("sample_means", {x.position()}, y, [scale](Context& context, Gradients& grad) {
    context.launch(SpreadRows{.out = grad.in(0), .in = grad.out(), .scale = scale});
  });
  return y;
}

Tensor recompute(Call call, const Tensor& x, const Segment& segment) {
  Context& context = call.context;
  if (context.tape() == nullptr) return segment(context, x);
  const RandomPosition random = context.random();
  std::vector<Variable> variables;
  Context once = context.with_tape(nullptr);
  once.note_variables(&variables);
  Tensor y = segment(once, x);
  context.random() = once.random();
  std::ranges::sort(variables, {}, &Variable::index);
  const auto twice = std::ranges::unique(variables, {}, &Variable::index);
  variables.erase(twice.begin(), twice.end());
  std::vector<TapePosition> inputs{x.position()};
  for (const Variable variable : variables) inputs.push_back(context.value(variable).position());
  call.record("recompute", inputs, y, [x, segment, random, variables](Context& outer, Gradients& grad) {
    Tape tape;
    // Positions are those of the other tape.
    Tensor input = x;
    input.set_position({});
    std::vector<Tensor> values(outer.values().begin(), outer.values().end());
    for (Tensor& value : values) value.set_position({});
    if (grad.wanted(0)) tape.watch(input, 0, grad.in(0));
    for (size_t v = 0; v < variables.size(); ++v)
      if (grad.wanted(int(v) + 1)) tape.watch(values[size_t(variables[v].index)], int32_t(v) + 1, grad.in(int(v) + 1));
    Context again = outer.with_tape(&tape);
    again.set_observer(nullptr);  // it knows the variables of the other tape
    again.set_values(values);
    again.random() = random;
    const Tensor result = segment(again, input);
    tape.backward(again, result, Tensor::borrow(grad.out()), nullptr);
  });
  return y;
}

}  // namespace lockstep
