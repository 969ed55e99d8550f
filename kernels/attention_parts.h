// SPDX-License-Identifier: Apache-2.0
// What both halves of attention have in common: pointers in place of views, and who is dropped.
#pragma once

#include "kernels/attention.h"
#include "kernels/host_device.h"
#include "kernels/philox.h"

namespace lockstep::attention {

inline constexpr int64_t kBlock = kAttentionBlock;

// The elements of one head in a matrix with a row per position.
template <class T>
struct Rows {
  T* data;
  int64_t stride;
  HOST_DEVICE T* operator[](int64_t row) const { return data + row * stride; }
};

// All heads of a matrix.
template <class T>
struct Heads {
  T* data;
  int64_t stride, head_size;
  HOST_DEVICE Rows<T> at(int64_t row, int64_t head) const { return {data + row * stride + head * head_size, stride}; }
};
template <class T>
Heads<const T> heads(const HeadColumns& columns, const AttentionGeometry& geometry) {
  return {data<T>(columns.rows) + columns.first, columns.rows.shape[1], geometry.head_size};
}
template <class T>
Heads<T> heads(const HeadColumnsOut& columns, const AttentionGeometry& geometry) {
  return {data<T>(columns.rows) + columns.first, columns.rows.shape[1], geometry.head_size};
}
template <class T>
Heads<const T> heads(const ConstView& rows, const AttentionGeometry& geometry) {
  return heads<T>(HeadColumns{rows}, geometry);
}

// A Philox call draws for four neighbouring keys of a query.
struct Dropped {
  const int64_t *key = nullptr, *sample_ids = nullptr;  // null: nothing is dropped
  uint32_t op = 0, threshold = 0;
  float keep = 1;

  HOST_DEVICE bool any() const { return key != nullptr; }
  // One key for all weights of a head of a sample.
  HOST_DEVICE uint64_t key_of(int64_t sample, int64_t head) const {
    const Philox4 mixed =
        philox4x32(uint64_t(*key), uint64_t(sample_ids[sample]), (uint64_t(op) << 32) | uint64_t(uint32_t(head)));
    return (uint64_t(mixed.v[0]) << 32) | mixed.v[1];
  }
  HOST_DEVICE float factor(uint32_t draw) const { return draw < threshold ? 0.0f : keep; }
};
inline Dropped dropped(const AttentionDropout& dropout) {
  if (dropout.rate == 0) return {};
  return {data<int64_t>(dropout.key), data<int64_t>(dropout.sample_ids), dropout.op,
          uint32_t(double(dropout.rate) * 4294967296.0), 1 / (1 - dropout.rate)};
}

inline void check_geometry(const AttentionGeometry& g) {
  check(g.kv_heads > 0 && g.heads % g.kv_heads == 0 && g.head_size > 0 && g.head_size <= kMostHeadSize &&
            g.queries <= g.keys,
        ErrorCode::internal, [&] {
          return str("attention: ", g.heads, " heads of ", g.head_size, " with ", g.kv_heads, " for keys, ", g.queries,
                     " queries of ", g.keys, " keys; expected whole groups, heads of 1 to ", kMostHeadSize,
                     ", and no more queries than keys");
        });
}

constexpr int64_t blocks_of(int64_t positions) { return (positions + kBlock - 1) / kBlock; }

}  // namespace lockstep::attention
