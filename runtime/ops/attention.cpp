// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention.h"

#include <cmath>

#include "runtime/ops/language.h"

namespace lockstep {
namespace {

AttentionGeometry geometry_of(const Tensor& query, const Shape& key, int64_t query_columns,
                              const AttentionHeads& heads) {
  const int64_t rows = query.shape().rank() == 2 ? query.shape()[0] : -1;
  const bool fits = rows >= 0 && heads.length > 0 && rows % heads.length == 0 && key[0] == rows && heads.kv_heads > 0 &&
                    heads.heads > 0 && heads.heads % heads.kv_heads == 0 && query_columns % heads.heads == 0 &&
                    key[1] == query_columns / heads.heads * heads.kv_heads &&
                    query_columns / heads.heads <= kMostHeadSize;
  check(fits, ErrorCode::plan, [&] {
    return str("causal_attention: expected samples of ", heads.length, " rows with ", heads.heads,
               " heads of queries, a multiple of the ", heads.kv_heads, " of keys and values, each of at most ",
               kMostHeadSize, " columns, got ", to_string(query.shape()), " and ", to_string(key));
  });
  return {.samples = rows / heads.length,
          .queries = heads.length,
          .keys = heads.length,
          .heads = heads.heads,
          .kv_heads = heads.kv_heads,
          .head_size = query_columns / heads.heads};
}

AttentionDropout dropout_of(Context& context, float rate, int64_t samples) {
  check(rate >= 0 && rate < 1, ErrorCode::usage,
        [&] { return str("causal_attention: expected a dropout in [0, 1), got ", rate); });
  if (!context.training() || rate == 0) return {};
  RandomPosition& random = context.random();
  check(random.sample_ids.size() == samples, ErrorCode::plan, [&] {
    return str("causal_attention: expected a sample id for each of ", samples, " samples, got ",
               random.sample_ids.size(), "; set Context::random().sample_ids");
  });
  return {.rate = rate, .key = random.key, .sample_ids = random.sample_ids, .op = random.next_op++};
}

// What the gradient needs besides queries, keys and values.
struct Kept {
  Tensor out, log_sum;
  AttentionGeometry geometry;
  float scale;
  AttentionDropout dropout;
};

Kept attend(Context& context, const HeadColumns& query, const HeadColumns& key, const HeadColumns& value,
            const AttentionGeometry& g, float dropout) {
  Kept kept{context.empty({g.samples * g.queries, g.heads * g.head_size}, query.rows.dtype),
            context.empty({g.samples, g.heads, g.queries}), g, 1 / std::sqrt(float(g.head_size)),
            dropout_of(context, dropout, g.samples)};
  context.launch(CausalAttention{.out = kept.out,
                                 .log_sum = kept.log_sum,
                                 .query = query,
                                 .key = key,
                                 .value = value,
                                 .geometry = g,
                                 .scale = kept.scale,
                                 .dropout = kept.dropout});
  return kept;
}

CausalAttentionGrad gradient(const Kept& kept, const ConstView& d_out) {
  return {.d_query = {},
          .d_key = {},
          .d_value = {},
          .d_out = d_out,
          .out = kept.out,
          .log_sum = kept.log_sum,
          .query = {},
          .key = {},
          .value = {},
          .geometry = kept.geometry,
          .scale = kept.scale,
          .dropout = kept.dropout};
}

}  // namespace

Tensor causal_attention(Call call, const Tensor& query, const Tensor& key, const Tensor& value,
                        const AttentionHeads& heads, float dropout) {
  check(key.shape().rank() == 2 && key.shape() == value.shape(), ErrorCode::plan, [&] {
    return str("causal_attention: expected keys and values of one shape, got ", to_string(key.shape()), " and ",
               to_string(value.shape()));
  });
  const AttentionGeometry g = geometry_of(query, key.shape(), query.shape().rank() == 2 ? query.shape()[1] : 0, heads);
  const Kept kept = attend(call.context, {query}, {key}, {value}, g, dropout);
  Tensor y = kept.out;
  call.record("causal_attention", {query.position(), key.position(), value.position()}, y,
              [kept, query, key, value](Context& context, Gradients& grad) {
                CausalAttentionGrad kernel = gradient(kept, grad.out());
                kernel.query = {query}, kernel.key = {key}, kernel.value = {value};
                Tensor unwanted[3];
                const auto destination = [&](int i, const Tensor& input) -> View {
                  if (grad.wanted(i)) return grad.in(i);
                  return unwanted[i] = context.empty_like(input);
                };
                kernel.d_query = {destination(0, query)};
                kernel.d_key = {destination(1, key)};
                kernel.d_value = {destination(2, value)};
                context.launch(kernel);
              });
  return y;
}

Tensor causal_attention(Call call, const Tensor& query_key_value, const AttentionHeads& heads, float dropout) {
  const Shape& shape = query_key_value.shape();
  const int64_t all = heads.heads + 2 * heads.kv_heads, columns = shape.rank() == 2 ? shape[1] : 0;
  check(all > 0 && columns % all == 0, ErrorCode::plan, [&] {
    return str("causal_attention: expected the columns of ", heads.heads, " heads of queries and twice ",
               heads.kv_heads, " of keys and values side by side, got ", to_string(shape));
  });
  const int64_t size = columns / all, first_key = heads.heads * size, first_value = first_key + heads.kv_heads * size;
  const AttentionGeometry g = geometry_of(query_key_value, {shape[0], heads.kv_heads * size}, first_key, heads);
  const Kept kept =
      attend(call.context, {query_key_value}, {query_key_value, first_key}, {query_key_value, first_value}, g, dropout);
  Tensor y = kept.out;
  call.record("causal_attention", {query_key_value.position()}, y,
              [kept, query_key_value, first_key, first_value](Context& context, Gradients& grad) {
                CausalAttentionGrad kernel = gradient(kept, grad.out());
                kernel.query = {query_key_value};
                kernel.key = {query_key_value, first_key};
                kernel.value = {query_key_value, first_value};
                const View d_in = grad.in(0);
                kernel.d_query = {d_in}, kernel.d_key = {d_in, first_key}, kernel.d_value = {d_in, first_value};
                context.launch(kernel);
              });
  return y;
}

}  // namespace lockstep
