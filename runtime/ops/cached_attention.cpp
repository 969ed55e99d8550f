// SPDX-License-Identifier: Apache-2.0
#include "runtime/ops/cached_attention.h"

#include <cmath>

#include "kernels/attention.h"
#include "kernels/pointwise.h"

namespace lockstep {
namespace {

void check_next(Context& context, const Tensor& rows, const AttentionHeads& heads) {
  check(context.tape() == nullptr, ErrorCode::plan,
        "cached_attention: a cache is for evaluation, and has no gradient; use causal_attention() on a tape");
  check(rows.shape().rank() == 2 && rows.shape()[0] == heads.length && heads.length > 0, ErrorCode::plan, [&] {
    return str("cached_attention: expected the next ", heads.length, " positions of one sample, got ",
               to_string(rows.shape()));
  });
}

Tensor attend(Context& context, const HeadColumns& query, const HeadColumns& key, const HeadColumns& value,
              const AttentionHeads& heads, int64_t head_size) {
  const AttentionGeometry geometry{.samples = 1,
                                   .queries = heads.length,
                                   .keys = key.rows.shape[0],
                                   .heads = heads.heads,
                                   .kv_heads = heads.kv_heads,
                                   .head_size = head_size};
  Tensor out = context.empty({heads.length, heads.heads * head_size}, query.rows.dtype);
  const Tensor log_sum = context.empty({1, heads.heads, heads.length});
  context.launch(CausalAttention{.out = out,
                                 .log_sum = log_sum,
                                 .query = query,
                                 .key = key,
                                 .value = value,
                                 .geometry = geometry,
                                 .scale = 1 / std::sqrt(float(head_size))});
  return out;
}

}  // namespace

ConstView KeyValueCache::append(Context& context, int64_t number, const Tensor& rows) {
  const int64_t width = rows.shape()[1], end = length_ + rows.shape()[0];
  check(end <= capacity_, ErrorCode::plan, [&] {
    return str("a cache of ", capacity_, " positions cannot keep ", rows.shape()[0], " behind ", length_,
               "; clear it, or use a longer one");
  });
  if (size_t(number) >= kept_.size()) kept_.resize(size_t(number) + 1);
  Tensor& kept = kept_[size_t(number)];
  if (!kept) kept = context.empty({capacity_, width}, rows.dtype());
  check(kept.shape()[1] == width, ErrorCode::plan, [&] {
    return str("a cache keeps rows of ", kept.shape()[1], " elements under number ", number, ", got rows of ", width);
  });
  context.launch(Copy{slice(View(kept), length_ * width, end * width), slice(ConstView(rows), 0, rows.size())});
  ConstView all = kept;
  all.shape = {end, width};
  return all;
}

Tensor cached_attention(Call call, const Tensor& query, const Tensor& key, const Tensor& value,
                        const AttentionHeads& heads, KeyValueCache& cache, int64_t layer) {
  check_next(call.context, query, heads);
  const int64_t size = heads.heads > 0 ? query.shape()[1] / heads.heads : 0;
  const Shape expected{heads.length, heads.kv_heads * size};
  check(size * heads.heads == query.shape()[1] && key.shape() == expected && value.shape() == expected, ErrorCode::plan,
        [&] {
          return str("cached_attention: expected ", heads.heads, " heads of queries and ", heads.kv_heads,
                     " of keys and values, got ", to_string(query.shape()), ", ", to_string(key.shape()), " and ",
                     to_string(value.shape()));
        });
  const ConstView keys = cache.append(call.context, 2 * layer, key);
  const ConstView values = cache.append(call.context, 2 * layer + 1, value);
  return attend(call.context, {query}, {keys}, {values}, heads, size);
}

Tensor cached_attention(Call call, const Tensor& query_key_value, const AttentionHeads& heads, KeyValueCache& cache,
                        int64_t layer) {
  check_next(call.context, query_key_value, heads);
  const int64_t all = heads.heads + 2 * heads.kv_heads, columns = query_key_value.shape()[1];
  check(all > 0 && columns % all == 0, ErrorCode::plan, [&] {
    return str("cached_attention: expected the columns of ", heads.heads, " heads of queries and twice ",
               heads.kv_heads, " of keys and values side by side, got ", to_string(query_key_value.shape()));
  });
  const int64_t size = columns / all, first_key = heads.heads * size, first_value = first_key + heads.kv_heads * size;
  const ConstView rows = cache.append(call.context, layer, query_key_value);
  return attend(call.context, {query_key_value}, {rows, first_key}, {rows, first_value}, heads, size);
}

}  // namespace lockstep
