// SPDX-License-Identifier: Apache-2.0
// Causal self-attention (Vaswani et al. 2017) in blocks of queries and keys, with running maxima and sums (Dao et al.
// 2022): no matrix of all queries and keys is ever in memory, and the gradient recomputes its blocks from the
// logarithms of the sums. Groups of heads may share keys and values (Ainslie et al. 2023).
//
// Note [Order of sums in attention]. Scores are sums over the elements of a head, one after the other; values are sums
// over keys, gradients of queries too, and gradients of keys and values over heads of a group and then queries, all in
// ascending order by fused multiply-adds. A running maximum is taken after every kAttentionBlock keys. Both halves keep
// to this order, so they have the same bits, on any number of threads.
#pragma once

#include "kernels/device/view.h"
#include "kernels/host_device.h"
#include "kernels/launch.h"

namespace lockstep {

// Queries and keys of a block, and the largest head, whose sums a GPU has to hold in registers.
inline constexpr int64_t kAttentionBlock = 64, kMostHeadSize = 128;

struct AttentionGeometry {
  int64_t samples;
  int64_t queries, keys;    // of each sample; query i stands at position keys - queries + i and sees keys up to there
  int64_t heads, kv_heads;  // heads h * heads / kv_heads + 0, 1, ... share keys and values of kv head h
  int64_t head_size;

  HOST_DEVICE int64_t group() const { return heads / kv_heads; }
};

// The heads of queries, keys or values: columns of a matrix with a row for each position of each sample. All such
// matrices of a call are f32, or all bf16; sums and log_sum are f32.
struct HeadColumns {
  ConstView rows;
  int64_t first = 0;  // column of the first head
};
struct HeadColumnsOut {
  View rows;
  int64_t first = 0;
};

// Which weights are dropped: a function of (key, sample, op, head, query, key position), as for Dropout.
struct AttentionDropout {
  float rate = 0;
  ConstView key = {};         // [] i64: dropout_key()
  ConstView sample_ids = {};  // [samples] i64
  uint32_t op = 0;
};

// out[q, :] = sum over keys k <= q of dropped(softmax over k of (query[q] . key[k] * scale)) * value[k, :], for each
// head
struct CausalAttention {
  View out;      // [samples * queries, heads * head_size]
  View log_sum;  // [samples, heads, queries]: log of the sum of exponentials, for the gradient
  HeadColumns query, key, value;
  AttentionGeometry geometry;
  float scale;
  AttentionDropout dropout = {};
};
int64_t scratch_bytes(Cpu, Stream&, const CausalAttention&);
void run(Cpu, Stream&, const CausalAttention&, std::byte* scratch);
int64_t scratch_bytes(Cuda, Stream&, const CausalAttention&);
void run(Cuda, Stream&, const CausalAttention&, std::byte* scratch);

// As many queries as keys. The destinations are overwritten in the columns of the heads; they may lie in one matrix.
struct CausalAttentionGrad {
  HeadColumnsOut d_query, d_key, d_value;
  ConstView d_out, out, log_sum;
  HeadColumns query, key, value;
  AttentionGeometry geometry;
  float scale;
  AttentionDropout dropout = {};
};
int64_t scratch_bytes(Cpu, Stream&, const CausalAttentionGrad&);
void run(Cpu, Stream&, const CausalAttentionGrad&, std::byte* scratch);
int64_t scratch_bytes(Cuda, Stream&, const CausalAttentionGrad&);
void run(Cuda, Stream&, const CausalAttentionGrad&, std::byte* scratch);

}  // namespace lockstep
