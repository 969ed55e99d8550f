// SPDX-License-Identifier: Apache-2.0
// Attention on a GPU, compiled for the device alone: a thread for each query of a block, or for each key where
// gradients of keys and values are wanted. Every element of a result has one writer, and blocks of threads share
// nothing.
#include "kernels/attention_parts.h"
#include "kernels/backend_cuda.cuh"
#include "kernels/math.h"

namespace lockstep {
namespace {

using namespace attention;

inline constexpr int kLanes = int(kBlock);

// [lane][element] of a block of rows, and [row][lane] of what lanes keep for themselves between two passes over rows.
template <int kSize>
using Tile = float[kLanes][kSize];
using Kept = float[kLanes][kLanes];

// The threads of a block bring `count` rows into shared memory; elements behind `size` are 0. It meets before, so that
// nobody reads the former tile any more, and afterwards.
template <int kSize, class T>
__device__ void load_tile(Tile<kSize>& tile, Rows<const T> rows, int64_t count, int size, float scale) {
  __syncthreads();
  for (int i = int(threadIdx.x); i < kLanes * kSize; i += kLanes) {
    const int row = i / kSize, d = i % kSize;
    tile[row][d] = row < count && d < size ? float(rows[row][d]) * scale : 0;
  }
  __syncthreads();
}

// The row of a lane: in registers, or where these are too few, and for a second row, read whenever it is wanted.
// Elements behind `size` are 0, and so are all of a row that does not exist.
template <int kSize>
struct HeldRow {
  float at[kSize];
  template <class T>
  __device__ HeldRow(const T* row, bool exists, int size, float scale) {
    for (int d = 0; d < kSize; ++d) at[d] = exists && d < size ? float(row[d]) * scale : 0;
  }
  __device__ float operator[](int d) const { return at[d]; }
};
template <class T>
struct ReadRow {
  const T* row;
  int size;
  float scale;
  __device__ ReadRow(const T* from, bool exists, int size_of, float scale_of)
      : row(from), size(exists ? size_of : 0), scale(scale_of) {}
  __device__ float operator[](int d) const { return d < size ? float(row[d]) * scale : 0; }
};
template <int kSize, class T>
using OwnRow = std::conditional_t<(kSize <= 64), HeldRow<kSize>, ReadRow<T>>;
template <int kSize, class Row>
__device__ float dot(const float (&a)[kSize], const Row& b) {
  // Elements in registers want all of the loop unrolled; those in memory would take too many registers then.
  [[maybe_unused]] constexpr int kUnrolled = std::is_same_v<Row, HeldRow<kSize>> ? kSize : 8;
  float sum = 0;
#pragma unroll kUnrolled
  for (int d = 0; d < kSize; ++d) sum = std::fma(a[d], b[d], sum);
  return sum;
}

template <int kSize>
__device__ void add_scaled(float (&sum)[kSize], float factor, const float (&row)[kSize]) {
#pragma unroll
  for (int d = 0; d < kSize; ++d) sum[d] = std::fma(factor, row[d], sum[d]);
}

// to[d] = finish(sum[d]) for the elements that there are. Only an unrolled loop keeps the sums in registers.
template <int kSize, class T, class Finish>
__device__ void store(T* to, int size, const float (&sum)[kSize], const Finish& finish) {
#pragma unroll
  for (int d = 0; d < kSize; ++d)
    if (d < size) to[d] = T(finish(sum[d]));
}

// The factor of dropout for one weight.
struct Draws {
  Dropped dropped;
  uint64_t key;
  __device__ Draws(const Dropped& of, int64_t sample, int64_t head)
      : dropped(of), key(of.any() ? of.key_of(sample, head) : 0) {}
  __device__ float factor(int64_t query, int64_t position) const {
    if (!dropped.any()) return 1;
    const Philox4 four = philox4x32(key, uint64_t(query), uint64_t(position / 4));
    const int64_t which = position % 4;
    return dropped.factor(which < 2 ? (which == 0 ? four.v[0] : four.v[1]) : (which == 2 ? four.v[2] : four.v[3]));
  }
};

// T is the dtype of activations.
template <class T>
struct Operands {
  Heads<const T> query, key, value;
  AttentionGeometry geometry;
  float scale;
  Dropped dropped;
};

template <class T, class Kernel>
Operands<T> operands(const Kernel& k) {
  const AttentionGeometry& g = k.geometry;
  check_geometry(g);
  return {heads<T>(k.query, g), heads<T>(k.key, g), heads<T>(k.value, g), g, k.scale, attention::dropped(k.dropout)};
}

// The head, the sample and the first position that a block of threads works on, of `heads` heads with `blocks` blocks.
struct Place {
  int64_t sample, head, first;
  __device__ Place(int64_t heads, int64_t blocks)
      : sample(blockIdx.x / (heads * blocks)), head(blockIdx.x / blocks % heads), first(blockIdx.x % blocks * kBlock) {}
};

template <int kSize, class T>
__global__ void __launch_bounds__(kLanes, 1) attention_kernel(Operands<T> in, Heads<T> out, float* log_sum) {
  auto& tile = cuda::block_shared<Tile<kSize>, struct AttentionTile>();
  auto& kept = cuda::block_shared<Kept, struct AttentionKept>();
  const AttentionGeometry& g = in.geometry;
  const Place at(g.heads, (g.queries + kBlock - 1) / kBlock);
  const int lane = int(threadIdx.x), size = int(g.head_size);
  const int64_t query = at.first + lane, row = at.sample * g.queries + query, kv_head = at.head / g.group();
  const int64_t position = g.keys - g.queries + query;
  const int64_t last = g.keys - g.queries + (at.first + kBlock < g.queries ? at.first + kBlock : g.queries);
  const OwnRow<kSize, T> q(in.query.at(row, at.head).data, query < g.queries, size, in.scale);
  float sum[kSize] = {}, peak = -INFINITY, total = 0;
  const Draws draws(in.dropped, at.sample, at.head);
  for (int64_t first = 0; first < last; first += kBlock) {
    const int count = int(g.keys - first < kBlock ? g.keys - first : kBlock);
    load_tile<kSize>(tile, in.key.at(at.sample * g.keys + first, kv_head), count, size, 1);
    const float former = peak;
    for (int k = 0; k < count; ++k) {
      const float score = first + k <= position ? dot(tile[k], q) : -INFINITY;
      kept[k][lane] = score;
      peak = peak < score ? score : peak;
    }
    const float correction = exp_f32(former - peak);
    total *= correction;
    for (int d = 0; d < kSize; ++d) sum[d] *= correction;
    for (int k = 0; k < count; ++k) {
      const float weight = exp_f32(kept[k][lane] - peak);
      total += weight;
      kept[k][lane] = weight * draws.factor(position, first + k);
    }
    load_tile<kSize>(tile, in.value.at(at.sample * g.keys + first, kv_head), count, size, 1);
    for (int k = 0; k < count; ++k) add_scaled(sum, kept[k][lane], tile[k]);
  }
  if (query >= g.queries) return;
  T* to = out.at(row, at.head).data;
  store(to, size, sum, [total](float x) { return x / total; });
  log_sum[(at.sample * g.heads + at.head) * g.queries + query] = peak + log_f32(total);
}

template <class T>
struct GradOperands {
  Operands<T> in;
  Heads<const T> d_out, out;
  const float* log_sum;
  float* delta;  // [samples, heads, queries]: sums of d_out * out over a head
};

// The gradient of a block of queries; leaves their deltas behind.
template <int kSize, class T>
__global__ void __launch_bounds__(kLanes, 1) d_query_kernel(GradOperands<T> k, Heads<T> d_query) {
  auto& tile = cuda::block_shared<Tile<kSize>, struct QueryTile>();
  auto& kept = cuda::block_shared<Kept, struct QueryKept>();
  const AttentionGeometry& g = k.in.geometry;
  const Place at(g.heads, (g.queries + kBlock - 1) / kBlock);
  const int lane = int(threadIdx.x), size = int(g.head_size);
  const int64_t query = at.first + lane, row = at.sample * g.queries + query, kv_head = at.head / g.group();
  const int64_t number = (at.sample * g.heads + at.head) * g.queries + query;
  const bool exists = query < g.queries;
  const OwnRow<kSize, T> q(k.in.query.at(row, at.head).data, exists, size, k.in.scale);
  const ReadRow<T> dy(k.d_out.at(row, at.head).data, exists, size, 1);
  float sum[kSize] = {}, delta = 0, log_sum = 0;
  if (exists) {
    const T* y = k.out.at(row, at.head).data;
    for (int d = 0; d < size; ++d) delta = std::fma(float(k.d_out.at(row, at.head).data[d]), float(y[d]), delta);
    k.delta[number] = delta;
    log_sum = k.log_sum[number];
  }
  const Draws draws(k.in.dropped, at.sample, at.head);
  for (int64_t first = 0; first < at.first + kBlock && first < g.keys; first += kBlock) {
    const int count = int(g.keys - first < kBlock ? g.keys - first : kBlock);
    const Rows<const T> keys = k.in.key.at(at.sample * g.keys + first, kv_head);
    load_tile<kSize>(tile, keys, count, size, 1);
    for (int j = 0; j < count; ++j)
      kept[j][lane] = exists && first + j <= query ? exp_f32(dot(tile[j], q) - log_sum) : 0;
    load_tile<kSize>(tile, k.in.value.at(at.sample * g.keys + first, kv_head), count, size, 1);
    for (int j = 0; j < count; ++j)
      if (exists && first + j <= query) kept[j][lane] *= dot(tile[j], dy) * draws.factor(query, first + j) - delta;
    load_tile<kSize>(tile, keys, count, size, 1);
    for (int j = 0; j < count; ++j) add_scaled(sum, kept[j][lane], tile[j]);
  }
  if (!exists) return;
  T* to = d_query.at(row, at.head).data;
  store(to, size, sum, [scale = k.in.scale](float x) { return x * scale; });
}

// The gradients of a block of values, or of keys, over all queries of the group that see them.
template <int kSize, bool kOfKeys, class T>
__global__ void __launch_bounds__(kLanes, 1) d_key_or_value_kernel(GradOperands<T> k, Heads<T> result) {
  auto& tile = cuda::block_shared<Tile<kSize>, struct KeyTile>();
  auto& kept = cuda::block_shared<Kept, struct KeyKept>();
  const AttentionGeometry& g = k.in.geometry;
  const Place at(g.kv_heads, (g.keys + kBlock - 1) / kBlock);
  const int lane = int(threadIdx.x), size = int(g.head_size);
  const int64_t position = at.first + lane, row = at.sample * g.keys + position;
  const bool exists = position < g.keys;
  const OwnRow<kSize, T> key(k.in.key.at(row, at.head).data, exists, size, 1);
  const ReadRow<T> value(k.in.value.at(row, at.head).data, exists, size, 1);
  float sum[kSize] = {};
  for (int64_t head = at.head * g.group(); head < (at.head + 1) * g.group(); ++head) {
    const Draws draws(k.in.dropped, at.sample, head);
    for (int64_t first = at.first; first < g.queries; first += kBlock) {
      const int count = int(g.queries - first < kBlock ? g.queries - first : kBlock);
      const Rows<const T> queries = k.in.query.at(at.sample * g.queries + first, head);
      const int64_t number = (at.sample * g.heads + head) * g.queries + first;
      load_tile<kSize>(tile, queries, count, size, k.in.scale);
      for (int i = 0; i < count; ++i)
        kept[i][lane] = position <= first + i ? exp_f32(dot(tile[i], key) - k.log_sum[number + i]) : 0;
      load_tile<kSize>(tile, k.d_out.at(at.sample * g.queries + first, head), count, size, 1);
      for (int i = 0; i < count; ++i) {
        const float weight = kept[i][lane], factor = draws.factor(first + i, position);
        if constexpr (kOfKeys)
          kept[i][lane] = weight * (dot(tile[i], value) * factor - k.delta[number + i]);
        else
          add_scaled(sum, weight * factor, tile[i]);
      }
      if constexpr (kOfKeys) {
        load_tile<kSize>(tile, queries, count, size, 1);
        for (int i = 0; i < count; ++i) add_scaled(sum, kept[i][lane], tile[i]);
      }
    }
  }
  if (!exists) return;
  T* to = result.at(row, at.head).data;
  store(to, size, sum, [scale = k.in.scale](float x) { return kOfKeys ? x * scale : x; });
}

// Calls f with the smallest size of tiles, a constant, that holds a head.
template <class F>
void with_size(int64_t head_size, const F& f) {
  if (head_size <= 32) return f(std::integral_constant<int, 32>{});
  if (head_size <= 64) return f(std::integral_constant<int, 64>{});
  f(std::integral_constant<int, int(kMostHeadSize)>{});
}

unsigned blocks_for(const AttentionGeometry& g, int64_t heads, int64_t positions) {
  return cuda::grid_size(g.samples * heads * attention::blocks_of(positions));
}

}  // namespace

int64_t scratch_bytes(Cuda, Stream&, const CausalAttention&) { return 0; }

void run(Cuda, Stream& stream, const CausalAttention& k, std::byte*) {
  const AttentionGeometry& g = k.geometry;
  dispatch_activation(k.out.dtype, [&]<class T>(TypeTag<T>) {
    const Operands<T> in = operands<T>(k);
    if (g.samples * g.queries == 0) return;
    with_size(g.head_size, [&](auto size) {
      cuda::start(stream, blocks_for(g, g.heads, g.queries), kLanes, attention_kernel<size(), T>, in,
                  heads<T>(HeadColumnsOut{k.out}, g), data<float>(k.log_sum));
    });
  });
}

int64_t scratch_bytes(Cuda, Stream&, const CausalAttentionGrad& k) {
  const AttentionGeometry& g = k.geometry;
  return g.samples * g.heads * g.queries * int64_t(sizeof(float));
}

void run(Cuda, Stream& stream, const CausalAttentionGrad& k, std::byte* scratch) {
  const AttentionGeometry& g = k.geometry;
  dispatch_activation(k.out.dtype, [&]<class T>(TypeTag<T>) {
    const GradOperands<T> in{operands<T>(k), heads<T>(k.d_out, g), heads<T>(k.out, g), data<float>(k.log_sum),
                             reinterpret_cast<float*>(scratch)};
    if (g.samples * g.queries == 0) return;
    with_size(g.head_size, [&](auto size) {
      const unsigned of_queries = blocks_for(g, g.heads, g.queries), of_keys = blocks_for(g, g.kv_heads, g.keys);
      cuda::start(stream, of_queries, kLanes, d_query_kernel<size(), T>, in, heads<T>(k.d_query, g));
      cuda::start(stream, of_keys, kLanes, d_key_or_value_kernel<size(), true, T>, in, heads<T>(k.d_key, g));
      cuda::start(stream, of_keys, kLanes, d_key_or_value_kernel<size(), false, T>, in, heads<T>(k.d_value, g));
    });
  });
}

}  // namespace lockstep
