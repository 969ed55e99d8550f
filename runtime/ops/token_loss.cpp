// SPDX-License-Identifier: Apache-2.0
#include "kernels/token_loss.h"

#include <algorithm>

#include "kernels/matmul.h"
#include "runtime/ops/language.h"

namespace lockstep {
namespace {

// Rows whose logits are in memory at once: a function of the shapes alone, since it decides the order of sums.
int64_t rows_of_block(int64_t classes, int64_t most_bytes) {
  constexpr int64_t kLeast = 64;
  return std::max(kLeast, most_bytes / (classes * int64_t(sizeof(float))) / kLeast * kLeast);
}

ConstView rows_of(const ConstView& view, int64_t begin, int64_t count) {
  const int64_t columns = view.shape.rank() == 2 ? view.shape[1] : 1;
  ConstView part = slice(view, begin * columns, (begin + count) * columns);
  part.shape = view.shape.rank() == 2 ? Shape{count, columns} : Shape{count};
  return part;
}
View rows_of(const View& view, int64_t begin, int64_t count) {
  const int64_t columns = view.shape.rank() == 2 ? view.shape[1] : 1;
  View part = slice(view, begin * columns, (begin + count) * columns);
  part.shape = view.shape.rank() == 2 ? Shape{count, columns} : Shape{count};
  return part;
}

// The operands in both directions. Products take `hidden` as it is, and `weight` in its dtype.
struct Classifier {
  Tensor hidden, weight, targets, log_sum;
  int64_t rows, block;

  bool whole() const { return rows <= block; }
  int64_t rows_at_once() const { return std::min(rows, block); }
  // Calls f(first row, rows) for each block.
  template <class F>
  void each_block(const F& f) const {
    for (int64_t begin = 0; begin < rows; begin += block) f(begin, std::min(block, rows - begin));
  }
  Tensor right(Context& context) const { return as_dtype(context, weight, hidden.dtype()); }
  // `right` is right().
  void logits(Context& context, const Tensor& right, const View& out, int64_t begin, int64_t count) const {
    context.launch(Matmul{.out = out, .a = rows_of(ConstView(hidden), begin, count), .b = right, .transpose_b = true});
  }

  void backward(Context& context, Gradients& grad, const Tensor& kept) const {
    const Tensor memory = whole() ? kept : context.empty({block, weight.shape()[0]});
    const View d_hidden = grad.wanted(0) ? grad.in(0) : View();
    const Gradients::Accumulator d_weight = grad.wanted(1) ? grad.accumulator(1) : Gradients::Accumulator();
    const Tensor taken = right(context);
    each_block([&](int64_t begin, int64_t count) {
      const View part = rows_of(View(memory), 0, count);
      if (!whole()) logits(context, taken, part, begin, count);
      context.launch(TokenLossGrad{.logits = part,
                                   .log_sum = rows_of(ConstView(log_sum), begin, count),
                                   .d_loss = rows_of(grad.out(), begin, count),
                                   .targets = rows_of(ConstView(targets), begin, count)});
      const Tensor d_logits = as_dtype(context, Tensor::borrow(part), hidden.dtype());
      if (grad.wanted(1))
        context.launch(Matmul{.out = d_weight.view,
                              .a = d_logits,
                              .b = rows_of(ConstView(hidden), begin, count),
                              .transpose_a = true,
                              .accumulate = d_weight.holds || begin > 0});
      if (grad.wanted(0)) context.launch(Matmul{.out = rows_of(d_hidden, begin, count), .a = d_logits, .b = taken});
    });
  }
};

}  // namespace

Tensor token_loss(Call call, const Tensor& hidden, const Tensor& weight, const Tensor& targets,
                  int64_t most_logit_bytes) {
  const Shape &h = hidden.shape(), &w = weight.shape();
  check(h.rank() == 2 && w.rank() == 2 && h[1] == w[1] && targets.size() == h[0] && targets.dtype() == DType::i32,
        ErrorCode::plan, [&] {
          return str("token_loss: expected hidden [rows, width], weight [classes, width] and a target i32 for each ",
                     "row, got ", to_string(h), ", ", to_string(w), " and ", to_string(targets.dtype()), " ",
                     to_string(targets.shape()));
        });
  Context& context = call.context;
  const int64_t rows = h[0], classes = w[0];
  Tensor loss = context.empty({rows});
  const Classifier classifier{as_dtype(context, hidden, is_narrow(weight.dtype()) ? weight.dtype() : hidden.dtype()),
                              weight,
                              targets.reshaped({rows}),
                              context.empty({rows}),
                              rows,
                              rows_of_block(classes, most_logit_bytes)};
  Tensor logits = context.empty({classifier.rows_at_once(), classes});
  const Tensor taken = classifier.right(context);
  classifier.each_block([&](int64_t begin, int64_t count) {
    const View part = rows_of(View(logits), 0, count);
    classifier.logits(context, taken, part, begin, count);
    context.launch(TokenLoss{.loss = rows_of(View(loss), begin, count),
                             .log_sum = rows_of(View(classifier.log_sum), begin, count),
                             .logits = part,
                             .targets = rows_of(ConstView(classifier.targets), begin, count)});
  });
  if (!classifier.whole()) logits = {};
  call.record("token_loss", {hidden.position(), weight.position()}, loss,
              [classifier, logits](Context& context, Gradients& grad) { classifier.backward(context, grad, logits); });
  return loss;
}

}  // namespace lockstep
