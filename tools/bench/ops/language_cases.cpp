// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/ops/language_cases.h"

#include <cmath>
#include <functional>
#include <numeric>

#include "runtime/ops/language.h"
#include "tools/bench/ops/language_references.h"

namespace lockstep {
namespace {

using Tensors = std::vector<Tensor>;
using Doubles = std::vector<DoubleTensor>;

OpInput tokens(const Shape& shape, double low, double high) { return {shape, DType::i32, false, low, high}; }

double kept(int64_t, int64_t, int64_t, int64_t) { return 1; }

// Scores of queries and keys up to 2 are up to 4 sqrt(head size), whose exponentials err by that many roundings.
// Rows that a benchmark has cut to fewer are shorter texts.
int64_t text_length(int64_t rows, int64_t whole) { return std::gcd(rows, whole); }

OpCase attention(const std::string& note, std::vector<OpInput> inputs, std::vector<OpInput> large,
                 const AttentionHeads& small, const AttentionHeads& of_large, float dropout = 0) {
  const int64_t large_rows = large.empty() ? 0 : large[0].shape[0];
  const int64_t columns =
      large.empty() ? 0 : large[0].shape[1] / (of_large.heads + 2 * of_large.kv_heads) * of_large.heads;
  const int64_t small_rows = inputs[0].shape[0];
  return {"causal_attention",
          note,
          std::move(inputs),
          std::move(large),
          [=](Context& c, const Tensors& x) {
            const int64_t rows = x[0].shape()[0];
            AttentionHeads heads = rows == small_rows ? small : of_large;
            heads.length = text_length(rows, heads.length);
            // There are as many numbers of samples as rows; the first are those of the samples.
            c.random().sample_ids = slice(c.random().sample_ids, 0, rows / heads.length);
            return x.size() == 1 ? causal_attention(c, x[0], heads, dropout)
                                 : causal_attention(c, x[0], x[1], x[2], heads, dropout);
          },
          [=](const Doubles& x) {
            const bool drops = dropout > 0;
            return reference::causal_attention(
                x, small, drops ? reference::attention_dropout(op_case_dropout_key(), double(dropout)) : kept);
          },
          1e-5,
          2 * large_rows * of_large.length * columns};
}

OpCase turning(const std::string& note, std::vector<OpInput> large, RotaryPairs pairs) {
  const auto geometry = [pairs](int64_t rows) {
    return rows == 10 ? RotaryGeometry{.length = 5, .head_size = 6, .theta = 100, .pairs = pairs}
                      : RotaryGeometry{.length = text_length(rows, 256), .head_size = 64, .pairs = pairs};
  };
  return {"rotary",
          note,
          {{{10, 12}}},
          std::move(large),
          [=](Context& c, const Tensors& x) { return rotary(c, x[0], geometry(x[0].shape()[0])); },
          [=](const Doubles& x) { return reference::rotary(x[0], geometry(10)); },
          1e-6,
          0};
}

Tensor product_of(Context& context, const SumAndNorm& pair) { return multiply(context, pair.sum, pair.norm); }

OpCase classifier(const std::string& note, std::vector<OpInput> inputs, std::vector<OpInput> large, int64_t most_bytes,
                  int64_t large_flops) {
  return {"token_loss",
          note,
          std::move(inputs),
          std::move(large),
          [=](Context& c, const Tensors& x) { return token_loss(c, x[0], x[1], x[2], most_bytes); },
          [](const Doubles& x) { return reference::token_loss(x); },
          1e-5,
          large_flops};
}

// An op's inputs when activations are in bf16.
struct Roles {
  std::string op;
  std::vector<size_t> activations;
  std::vector<size_t> weights = {};  // which the op rounds to bf16, so that rounding them first changes nothing
  double roundings = 1;              // on the way to the result, each by 2^-8 of the number
};
OpCase in_bf16(OpCase op, const Roles& roles) {
  op.note += op.note.empty() ? "bf16" : " in bf16";
  op.large.clear();
  for (const size_t i : roles.activations)
    if (i < op.inputs.size()) op.inputs[i].dtype = op.inputs[i].gradient = DType::bf16;
  for (const size_t i : roles.weights) op.inputs[i].dtype = DType::bf16;
  op.tolerance += roles.roundings * 0x1.02p-8;
  op.activations = DType::bf16;
  return op;
}

}  // namespace

std::vector<OpCase> language_op_cases() {
  constexpr int64_t kRows = 8 * 256, kWidth = 384, kClasses = 4096;
  return {
      {"embedding",
       "",
       {tokens({2, 7}, 0, 5), {{5, 6}}},
       {tokens({8, 256}, 0, kClasses), {{kClasses, kWidth}}},
       [](Context& c, const Tensors& x) { return embedding(c, x[0], x[1]); },
       reference::embedding,
       1e-6,
       0},
      {"embedding",
       "with positions",
       {tokens({3, 4}, 0, 5), {{9, 6}}, {{5, 6}}},
       {tokens({8, 256}, 0, kClasses), {{kClasses, kWidth}}, {{256, kWidth}}},
       [](Context& c, const Tensors& x) { return embedding(c, x[0], x[1], x[2]); },
       reference::embedding,
       1e-6,
       0},
      {"rms_norm",
       "",
       {{{4, 21}}, {{21}}},
       {{{kRows, kWidth}}, {{kWidth}}},
       [](Context& c, const Tensors& x) { return rms_norm(c, x[0], x[1]); },
       reference::rms_norm,
       1e-5,
       0},
      // The product of both results, so that each has a gradient of its own.
      {"add_layer_norm",
       "",
       {{{4, 21}}, {{4, 21}}, {{21}}, {{21}}},
       {{{kRows, kWidth}}, {{kRows, kWidth}}, {{kWidth}}, {{kWidth}}},
       [](Context& c, const Tensors& x) { return product_of(c, add_layer_norm(c, x[0], x[1], x[2], x[3])); },
       [](const Doubles& x) {
         const DoubleTensor sum = reference::map(x[0], x[1], std::plus());
         return reference::map(sum, reference::layer_norm({sum, x[2], x[3]}), std::multiplies());
       },
       1e-5,
       0},
      {"add_rms_norm",
       "",
       {{{4, 21}}, {{4, 21}}, {{21}}},
       {{{kRows, kWidth}}, {{kRows, kWidth}}, {{kWidth}}},
       [](Context& c, const Tensors& x) { return product_of(c, add_rms_norm(c, x[0], x[1], x[2])); },
       [](const Doubles& x) {
         const DoubleTensor sum = reference::map(x[0], x[1], std::plus());
         return reference::map(sum, reference::rms_norm({sum, x[2]}), std::multiplies());
       },
       1e-5,
       0},
      turning("halves", {{{kRows, kWidth}}}, RotaryPairs::halves),
      turning("neighbours", {}, RotaryPairs::neighbours),
      {"swiglu",
       "",
       {{{5, 37}}, {{5, 37}}},
       {{{kRows, 1024}}, {{kRows, 1024}}},
       [](Context& c, const Tensors& x) { return swiglu(c, x[0], x[1]); },
       reference::swiglu,
       2e-6,
       0},
      // Longer than a block of queries and keys, with a group of heads.
      attention("grouped", {{{67, 6}}, {{67, 3}}, {{67, 3}}}, {}, {67, 2, 1}, {}),
      attention("packed", {{{10, 24}}}, {{{kRows, 3 * kWidth}}}, {5, 2, 2}, {256, 6, 6}),
      attention("dropped", {{{12, 40}}}, {{{kRows, 3 * kWidth}}}, {6, 3, 1}, {256, 6, 6}, 0.25f),
      classifier("", {{{6, 5}}, {{9, 5}}, tokens({6}, -2, 9)},
                 {{{kRows, kWidth}}, {{kClasses, kWidth}}, tokens({kRows}, 0, kClasses)}, kMostLogitBytes,
                 2 * kRows * kWidth * kClasses),
      classifier("in blocks", {{{130, 3}}, {{4, 3}}, tokens({130}, -1, 4)}, {}, 64, 0),
      {"log_softmax",
       "",
       {{{6, 10}}},
       {{{kRows, kClasses}}},
       [](Context& c, const Tensors& x) { return log_softmax(c, x[0]); },
       [](const Doubles& x) { return reference::log_softmax(x[0]); },
       2e-6,
       0},
      {"sample_means",
       "",
       {{{6, 7}}},
       {{{kRows, kWidth}}},
       [](Context& c, const Tensors& x) {
         return sample_means(c, x[0], x[0].shape()[0] / text_length(x[0].shape()[0], 2));
       },
       [](const Doubles& x) { return reference::sample_means(x[0], x[0].shape[0] / 2); },
       1e-6,
       0},
      // The product's operands are computed twice, and dropped alike both times.
      {"recompute",
       "",
       {{{6, 10}}},
       {},
       [](Context& c, const Tensors& x) {
         return recompute(c, x[0], [](Context& inner, const Tensor& t) {
           return multiply(inner, dropout(inner, tanh(inner, t), 0.3f), t);
         });
       },
       [](const Doubles& x) {
         const DoubleTensor t = reference::map(x[0], [](double v) { return std::tanh(v); });
         return reference::map(reference::dropout(t, 0.3, 7, 0), x[0], [](double a, double b) { return a * b; });
       },
       1e-5,
       0},
  };
}

std::vector<OpCase> cases_in_bf16(const std::vector<OpCase>& cases) {
  static const Roles kRoles[] = {{"add", {0, 1}},
                                 {"multiply", {0, 1}},
                                 {"gelu", {0}},
                                 {"dropout", {0}},
                                 {"matmul", {0}, {1}},
                                 {"matmul_transposed", {0}, {1}},
                                 {"linear", {0}, {1, 2}},
                                 {"linear_gelu", {0}, {1, 2}, 3},
                                 {"layer_norm", {0}},
                                 {"embedding", {}},
                                 {"rms_norm", {0}},
                                 {"add_layer_norm", {0, 1}, {}, 4},
                                 {"add_rms_norm", {0, 1}, {}, 4},
                                 {"rotary", {0}},
                                 {"swiglu", {0, 1}},
                                 {"causal_attention", {0, 1, 2}},
                                 {"token_loss", {0}, {1}},
                                 {"recompute", {0}, {}, 4}};
  std::vector<OpCase> narrow;
  for (const OpCase& op : cases)
    for (const Roles& roles : kRoles)
      if (op.op == roles.op) narrow.push_back(in_bf16(op, roles));
  return narrow;
}

}  // namespace lockstep
