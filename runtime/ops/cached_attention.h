// SPDX-License-Identifier: Apache-2.0
// Attention of a text that goes on: keys and values of the positions before are kept, so that a new token costs one row
// of every product. Only for evaluation; the results are those of causal_attention() for the whole text.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/ops/language.h"

namespace lockstep {

// What one text leaves behind in the layers of a model. Its memory, all positions of a layer at once, is taken from the
// context's pool when the layer first has something to keep; the pool must outlive the cache.
class KeyValueCache {
 public:
  explicit KeyValueCache(int64_t capacity) : capacity_(capacity) {}

  int64_t capacity() const { return capacity_; }  // positions
  int64_t length() const { return length_; }      // positions that every layer has seen
  // The next token is the first of a text.
  void clear() { length_ = 0; }
  // Says that all layers have kept `positions` more.
  void advance(int64_t positions) { length_ += positions; }

  // Keeps rows [new positions, width] behind those of the positions before and returns all of them. The first call with
  // a number makes room for it. Error(plan) beyond the capacity.
  ConstView append(Context& context, int64_t number, const Tensor& rows);

 private:
  int64_t capacity_;
  int64_t length_ = 0;
  std::vector<Tensor> kept_;  // [capacity, width] each
};

// causal_attention() of one sample whose first positions are in the cache; what it is given are the next. heads.length
// is the number of the latter. Every layer has a number of its own, from 0. Error(plan) on a tape.
Tensor cached_attention(Call call, const Tensor& query, const Tensor& key, const Tensor& value,
                        const AttentionHeads& heads, KeyValueCache& cache, int64_t layer);
// Keeps whole rows, so that nothing has to be taken apart: a half more memory than keys and values need.
Tensor cached_attention(Call call, const Tensor& query_key_value, const AttentionHeads& heads, KeyValueCache& cache,
                        int64_t layer);

}  // namespace lockstep
