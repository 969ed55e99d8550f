// SPDX-License-Identifier: Apache-2.0
// Attention on the CPU. Lanes of vectors are neighbouring queries of a block, so that maxima, exponentials and sums
// over keys need nothing across lanes; all products go through multiply_add(), which keeps its sums in registers.
// Rows in bf16 are widened on their way in, and results rounded on their way out; all in between is f32.
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/attention_parts.h"
#include "kernels/attention_tiles.h"
#include "kernels/math.h"
#include "kernels/parallel.h"

namespace lockstep {
namespace {

using namespace attention;

// One block of queries against one block of keys.
struct BlockPair {
  int64_t queries, keys;  // how many there are
  int64_t last_key;  // the last key that the first query sees, counted from the block's first; the next sees one more

  bool whole() const { return last_key >= keys - 1; }
  // The keys that some query of [begin, begin + kTileColumns) sees.
  int64_t seen(int64_t begin) const { return std::clamp<int64_t>(last_key + begin + kTileColumns, 0, keys); }
  // Calls f(first query, queries, keys) over ranges of queries, each with the keys that may be seen from there.
  template <class F>
  void each_range(const F& f) const {
    if (whole()) return f(int64_t(0), kBlock, keys);
    for (int64_t begin = 0; begin < kBlock; begin += kTileColumns) f(begin, kTileColumns, seen(begin));
  }
};

using Square = float[kBlock][kBlock];  // [key, query]

// to[d, q] = rows[q, d] * scale; 0 for queries that do not exist.
template <class T>
void transpose(Rows<const T> rows, int64_t queries, int64_t size, float scale, float* to) {
  for (int64_t q = 0; q < kBlock; ++q)
    for (int64_t d = 0; d < size; ++d) to[d * kBlock + q] = q < queries ? float(rows[q][d]) * scale : 0;
}

// `count` rows as f32: where they are, or else in `memory` of count * size floats.
Rows<const float> widened(Rows<const float> rows, int64_t, int64_t, float*) { return rows; }
Rows<const float> widened(Rows<const bfloat16> rows, int64_t count, int64_t size, float* memory) {
  for (int64_t r = 0; r < count; ++r)
    for (int64_t d = 0; d < size; ++d) memory[r * size + d] = float(rows[r][d]);
  return {memory, size};
}

// Where the sums of a result are kept: in the result, or else in such memory.
Rows<float> sums_of(Rows<float> result, int64_t, float*) { return result; }
Rows<float> sums_of(Rows<bfloat16>, int64_t size, float* memory) { return {memory, size}; }

// scores[key, query] = sum over d of keys[key, d] transposed[d, query]
void block_scores(const BlockPair& pair, Rows<const float> keys, int64_t size, const float* transposed,
                  Square& scores) {
  std::fill_n(&scores[0][0], pair.keys * kBlock, 0.0f);
  pair.each_range([&](int64_t begin, int64_t queries, int64_t seen) {
    multiply_add(seen, queries, size, {keys.data, keys.stride, 1}, transposed + begin, kBlock, &scores[0][begin],
                 kBlock);
  });
}

// sums[d, query] += sum over keys of keys[key, d] weights[key, query]
void add_over_keys(const BlockPair& pair, Rows<const float> keys, int64_t size, const Square& weights, float* sums) {
  pair.each_range([&](int64_t begin, int64_t queries, int64_t seen) {
    multiply_add(size, queries, seen, {keys.data, 1, keys.stride}, &weights[0][begin], kBlock, sums + begin, kBlock);
  });
}

// sums[key, d] += sum over queries of weights[key, query] rows[query, d]
void add_over_queries(const BlockPair& pair, const Square& weights, Rows<const float> rows, int64_t size,
                      Rows<float> sums) {
  multiply_add(pair.keys, size, pair.queries, {&weights[0][0], kBlock, 1}, rows.data, rows.stride, sums.data,
               sums.stride);
}

// Factors of dropout in place of `factors`.
void draw_factors(const Dropped& dropped, uint64_t key, const BlockPair& pair, int64_t first_query, int64_t first_key,
                  Square& factors) {
  for (int64_t k = 0; k < pair.keys; k += 4) {
    float *f0 = factors[k], *f1 = factors[k + 1], *f2 = factors[k + 2], *f3 = factors[k + 3];
    const uint64_t four = uint64_t((first_key + k) / 4);
#pragma omp simd
    for (int64_t q = 0; q < kBlock; ++q) {
      const Philox4 draw = philox4x32(key, uint64_t(first_query + q), four);
      f0[q] = dropped.factor(draw.v[0]);
      f1[q] = dropped.factor(draw.v[1]);
      f2[q] = dropped.factor(draw.v[2]);
      f3[q] = dropped.factor(draw.v[3]);
    }
  }
}

// What a thread works in.
struct alignas(64) ForwardWork {
  Square weights, factors;
  float query[kMostHeadSize][kBlock], sums[kMostHeadSize][kBlock];  // transposed
  float peak[kBlock], total[kBlock];
  float rows[kBlock * kMostHeadSize];  // keys or values, widened
};

// Where a block of queries of a head lies.
template <class T>
struct ForwardBlock {
  const CausalAttention& op;
  Heads<const T> query, key, value;
  Heads<T> out;
  float* log_sum;
  Dropped dropped;

  explicit ForwardBlock(const CausalAttention& k)
      : op(k),
        query(heads<T>(k.query, k.geometry)),
        key(heads<T>(k.key, k.geometry)),
        value(heads<T>(k.value, k.geometry)),
        out(heads<T>(HeadColumnsOut{k.out}, k.geometry)),
        log_sum(data<float>(k.log_sum)),
        dropped(attention::dropped(k.dropout)) {}

  // Takes the exponentials of a block of scores against the new maxima, and brings the former sums to these.
  void exponentials(const BlockPair& pair, ForwardWork& w) const {
    float *peak = w.peak, *total = w.total;
    float former[kBlock];
    std::copy_n(peak, kBlock, former);
    for (int64_t k = 0; k < pair.keys; ++k) {
      float* s = w.weights[k];
      const int64_t first_seeing = k - pair.last_key;
      for (int64_t q = 0; q < std::clamp<int64_t>(first_seeing, 0, kBlock); ++q)
        s[q] = -std::numeric_limits<float>::infinity();
#pragma omp simd
      for (int64_t q = 0; q < kBlock; ++q) peak[q] = peak[q] < s[q] ? s[q] : peak[q];
    }
#pragma omp simd
    for (int64_t q = 0; q < kBlock; ++q) {
      former[q] = exp_f32(former[q] - peak[q]);
      total[q] *= former[q];
    }
    for (int64_t d = 0; d < op.geometry.head_size; ++d)
#pragma omp simd
      for (int64_t q = 0; q < kBlock; ++q) w.sums[d][q] *= former[q];
    for (int64_t k = 0; k < pair.keys; ++k) {
      float* s = w.weights[k];
#pragma omp simd
      for (int64_t q = 0; q < kBlock; ++q) {
        s[q] = exp_f32(s[q] - peak[q]);
        total[q] += s[q];
      }
    }
  }

  void run(int64_t sample, int64_t head, int64_t first, ForwardWork& w) const {
    const AttentionGeometry& g = op.geometry;
    const int64_t queries = std::min(kBlock, g.queries - first), size = g.head_size, kv_head = head / g.group();
    const int64_t position = g.keys - g.queries + first;  // of the first query
    transpose(query.at(sample * g.queries + first, head), queries, size, op.scale, w.query[0]);
    std::fill_n(w.sums[0], size * kBlock, 0.0f);
    std::fill_n(w.peak, kBlock, -std::numeric_limits<float>::infinity());
    std::fill_n(w.total, kBlock, 0.0f);
    const uint64_t key_of_head = dropped.any() ? dropped.key_of(sample, head) : 0;
    for (int64_t k = 0; k < position + queries; k += kBlock) {
      const BlockPair pair{queries, std::min(kBlock, g.keys - k), position - k};
      block_scores(pair, widened(key.at(sample * g.keys + k, kv_head), pair.keys, size, w.rows), size, w.query[0],
                   w.weights);
      exponentials(pair, w);
      if (dropped.any()) {
        draw_factors(dropped, key_of_head, pair, position, k, w.factors);
        for (int64_t i = 0; i < pair.keys; ++i)
#pragma omp simd
          for (int64_t q = 0; q < kBlock; ++q) w.weights[i][q] *= w.factors[i][q];
      }
      add_over_keys(pair, widened(value.at(sample * g.keys + k, kv_head), pair.keys, size, w.rows), size, w.weights,
                    w.sums[0]);
    }
    const Rows<T> to = out.at(sample * g.queries + first, head);
    for (int64_t q = 0; q < queries; ++q)
      for (int64_t d = 0; d < size; ++d) to[q][d] = T(w.sums[d][q] / w.total[q]);
    float* kept = log_sum + (sample * g.heads + head) * g.queries + first;
    for (int64_t q = 0; q < queries; ++q) kept[q] = w.peak[q] + log_f32(w.total[q]);
  }
};

// What a thread works in for a gradient, besides transposed blocks of the head at hand.
struct alignas(64) BackwardWork {
  Square weights, d_weights, factors;
};
int64_t transposed_floats(const AttentionGeometry& g) { return blocks_of(g.queries) * kBlock * g.head_size; }
// Keys, values, queries, gradients of the result, of keys and of values, widened.
int64_t widened_floats(DType dtype, const AttentionGeometry& g) {
  return dtype == DType::f32 ? 0 : 6 * g.keys * g.head_size;
}
int64_t backward_bytes_of_worker(DType dtype, const AttentionGeometry& g) {
  const int64_t floats = 3 * transposed_floats(g) + blocks_of(g.queries) * kBlock + widened_floats(dtype, g);
  return scratch_piece(int64_t(sizeof(BackwardWork)) + floats * int64_t(sizeof(float)));
}

// The gradients of one head of keys and values of a sample, and of the heads of queries that share it.
template <class T>
class BackwardHead {
 public:
  BackwardHead(const CausalAttentionGrad& op, std::byte* scratch)
      : op_(op),
        g_(op.geometry),
        work_(*reinterpret_cast<BackwardWork*>(scratch)),
        query_t_(reinterpret_cast<float*>(scratch + sizeof(BackwardWork))),
        d_out_t_(query_t_ + transposed_floats(g_)),
        d_query_t_(d_out_t_ + transposed_floats(g_)),
        delta_(d_query_t_ + transposed_floats(g_)),
        widened_(delta_ + blocks_of(g_.queries) * kBlock),
        dropped_(attention::dropped(op.dropout)) {}

  void run(int64_t sample, int64_t kv_head) {
    const int64_t row = sample * g_.keys, size = g_.head_size;
    key_ = widened(heads<T>(op_.key, g_).at(row, kv_head), g_.keys, size, wide(0));
    value_ = widened(heads<T>(op_.value, g_).at(row, kv_head), g_.keys, size, wide(1));
    const Rows<T> d_key = heads<T>(op_.d_key, g_).at(row, kv_head),
                  d_value = heads<T>(op_.d_value, g_).at(row, kv_head);
    d_key_ = sums_of(d_key, size, wide(2));
    d_value_ = sums_of(d_value, size, wide(3));
    for (int64_t k = 0; k < g_.keys; ++k) {
      std::fill_n(d_key_[k], size, 0.0f);
      std::fill_n(d_value_[k], size, 0.0f);
    }
    for (int64_t h = 0; h < g_.group(); ++h) head(sample, kv_head * g_.group() + h);
    for (int64_t k = 0; k < g_.keys; ++k)
      for (int64_t d = 0; d < size; ++d) {
        d_key[k][d] = T(d_key_[k][d] * op_.scale);
        d_value[k][d] = T(d_value_[k][d]);
      }
  }

 private:
  void head(int64_t sample, int64_t head) {
    query_ = widened(heads<T>(op_.query, g_).at(sample * g_.queries, head), g_.queries, g_.head_size, wide(4));
    d_out_ = widened(heads<T>(op_.d_out, g_).at(sample * g_.queries, head), g_.queries, g_.head_size, wide(5));
    log_sum_ = data<float>(op_.log_sum) + (sample * g_.heads + head) * g_.queries;
    key_of_head_ = dropped_.any() ? dropped_.key_of(sample, head) : 0;
    prepare(heads<T>(op_.out, g_).at(sample * g_.queries, head));
    for (int64_t k = 0; k < g_.keys; k += kBlock)
      for (int64_t q = k; q < g_.queries; q += kBlock) pair(q, k);
    const Rows<T> d_query = heads<T>(op_.d_query, g_).at(sample * g_.queries, head);
    for (int64_t q = 0; q < g_.queries; ++q)
      for (int64_t d = 0; d < g_.head_size; ++d)
        d_query[q][d] = T(block_of(d_query_t_, q)[d * kBlock + q % kBlock] * op_.scale);
  }

  // The memory of widened rows: one head's.
  float* wide(int64_t number) const { return widened_ + number * g_.keys * g_.head_size; }

  float* block_of(float* transposed, int64_t query) const {
    return transposed + query / kBlock * kBlock * g_.head_size;
  }

  void prepare(Rows<const T> out) {
    const int64_t size = g_.head_size;
    std::fill_n(d_query_t_, transposed_floats(g_), 0.0f);
    for (int64_t q = 0; q < g_.queries; q += kBlock) {
      const int64_t queries = std::min(kBlock, g_.queries - q);
      transpose(Rows<const float>{query_[q], query_.stride}, queries, size, op_.scale, block_of(query_t_, q));
      transpose(Rows<const float>{d_out_[q], d_out_.stride}, queries, size, 1, block_of(d_out_t_, q));
    }
    for (int64_t q = 0; q < g_.queries; ++q) {
      float sum = 0;
      for (int64_t d = 0; d < size; ++d) sum = __builtin_fmaf(d_out_[q][d], float(out[q][d]), sum);
      delta_[q] = sum;
    }
  }

  // Queries from q and keys from k.
  void pair(int64_t q, int64_t k) {
    const int64_t size = g_.head_size;
    const BlockPair pair{std::min(kBlock, g_.queries - q), std::min(kBlock, g_.keys - k), q - k};
    const Rows<const float> keys{key_[k], key_.stride}, values{value_[k], value_.stride};
    block_scores(pair, keys, size, block_of(query_t_, q), work_.weights);
    block_scores(pair, values, size, block_of(d_out_t_, q), work_.d_weights);
    if (dropped_.any()) draw_factors(dropped_, key_of_head_, pair, q, k, work_.factors);
    weights_and_gradients(pair, log_sum_ + q, delta_ + q);
    // Where something is dropped, the values saw the dropped weights.
    add_over_queries(pair, dropped_.any() ? work_.factors : work_.weights, {d_out_[q], d_out_.stride}, size,
                     {d_value_[k], d_value_.stride});
    add_over_queries(pair, work_.d_weights, {query_[q], query_.stride}, size, {d_key_[k], d_key_.stride});
    add_over_keys(pair, keys, size, work_.d_weights, block_of(d_query_t_, q));
  }

  // Scores become weights, factors dropped weights, and gradients of weights those of scores.
  void weights_and_gradients(const BlockPair& pair, const float* log_sum, const float* delta) {
    const bool drops = dropped_.any();
    for (int64_t k = 0; k < pair.keys; ++k) {
      float *w = work_.weights[k], *d = work_.d_weights[k], *f = work_.factors[k];
      const int64_t first = std::clamp<int64_t>(k - pair.last_key, 0, pair.queries);
      if (drops)
#pragma omp simd
        for (int64_t q = first; q < pair.queries; ++q) {
          w[q] = exp_f32(w[q] - log_sum[q]);
          d[q] = w[q] * (d[q] * f[q] - delta[q]);
          f[q] = w[q] * f[q];
        }
      else
#pragma omp simd
        for (int64_t q = first; q < pair.queries; ++q) {
          w[q] = exp_f32(w[q] - log_sum[q]);
          d[q] = w[q] * (d[q] - delta[q]);
        }
      for (float* row : {w, d, f}) {
        std::fill_n(row, first, 0.0f);
        std::fill(row + pair.queries, row + kBlock, 0.0f);
      }
    }
  }

  const CausalAttentionGrad& op_;
  const AttentionGeometry& g_;
  BackwardWork& work_;
  float *query_t_, *d_out_t_, *d_query_t_, *delta_;  // blocks of [head_size, kBlock]; [queries]
  float* widened_;                                   // beyond the memory for f32, which wants none
  Dropped dropped_;
  Rows<const float> query_, d_out_, key_, value_;
  Rows<float> d_key_, d_value_;
  const float* log_sum_ = nullptr;
  uint64_t key_of_head_ = 0;
};

int64_t workers(const Stream& stream, int64_t parts) {
  return std::max<int64_t>(1, std::min<int64_t>(stream.threads(), parts));
}

// Calls f(part, scratch of the worker) for all parts; worker w has `bytes` at scratch + w * bytes.
template <class F>
void work_on(Stream& stream, int64_t parts, std::byte* scratch, int64_t bytes, const F& f) {
  const int64_t team = workers(stream, parts);
  cpu::parallel_parts(stream.threads(), team, [&](int64_t worker) {
    for (int64_t part = parts * worker / team; part < parts * (worker + 1) / team; ++part)
      f(part, scratch + worker * bytes);
  });
}

}  // namespace

int64_t scratch_bytes(Cpu, Stream& stream, const CausalAttention& k) {
  return workers(stream, k.geometry.samples * k.geometry.heads) * scratch_piece(sizeof(ForwardWork));
}

void run(Cpu, Stream& stream, const CausalAttention& k, std::byte* scratch) {
  const AttentionGeometry& g = k.geometry;
  check_geometry(g);
  dispatch_activation(k.out.dtype, [&]<class T>(TypeTag<T>) {
    const ForwardBlock<T> block(k);
    work_on(stream, g.samples * g.heads, scratch, scratch_piece(sizeof(ForwardWork)),
            [&](int64_t part, std::byte* own) {
              for (int64_t first = 0; first < g.queries; first += kBlock)
                block.run(part / g.heads, part % g.heads, first, *reinterpret_cast<ForwardWork*>(own));
            });
  });
}

int64_t scratch_bytes(Cpu, Stream& stream, const CausalAttentionGrad& k) {
  return workers(stream, k.geometry.samples * k.geometry.kv_heads) * backward_bytes_of_worker(k.out.dtype, k.geometry);
}

void run(Cpu, Stream& stream, const CausalAttentionGrad& k, std::byte* scratch) {
  const AttentionGeometry& g = k.geometry;
  check_geometry(g);
  dispatch_activation(k.out.dtype, [&]<class T>(TypeTag<T>) {
    work_on(stream, g.samples * g.kv_heads, scratch, backward_bytes_of_worker(k.out.dtype, g),
            [&](int64_t part, std::byte* own) { BackwardHead<T>(k, own).run(part / g.kv_heads, part % g.kv_heads); });
  });
}

}  // namespace lockstep
