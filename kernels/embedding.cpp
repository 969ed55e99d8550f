// SPDX-License-Identifier: Apache-2.0
#include "kernels/embedding.h"

#include <utility>

#include "kernels/backend.h"

namespace lockstep {
namespace {

// A is the dtype of activations, T that of the table.
template <class A, class T>
struct LookUpRow {
  A* out;
  const int32_t* tokens;
  const T *table, *positions;
  int64_t width, length;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    A* y = out + row * width;
    const T* x = table + tokens[row] * width;
    if (positions == nullptr) return team.each(width, [=](int64_t c) { y[c] = A(float(x[c])); });
    const T* p = positions + row % length * width;
    team.each(width, [=](int64_t c) { y[c] = A(float(x[c]) + float(p[c])); });
  }
};

// A row with its token in front, so that keys sort by token and then by row.
struct KeyAt {
  uint64_t* keys;
  const int32_t* tokens;
  HOST_DEVICE void operator()(int64_t i) const { keys[i] = (uint64_t(uint32_t(tokens[i])) << 32) | uint64_t(i); }
};
HOST_DEVICE inline int64_t token_of(uint64_t key) { return int64_t(key >> 32); }
HOST_DEVICE inline int64_t row_of(uint64_t key) { return int64_t(key & 0xffffffffu); }

// Merges neighbouring sorted runs of `width` keys. A key's place is its place in its own run plus the number of keys of
// the other run that are smaller: keys differ, so every place has one writer.
struct MergeAt {
  uint64_t* out;
  const uint64_t* in;
  int64_t n, width;

  HOST_DEVICE void operator()(int64_t i) const {
    const int64_t run = i / width, other = (run ^ 1) * width;
    int64_t low = other < n ? other : n, high = low + width < n ? low + width : n;
    const int64_t begin = low;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (in[middle] < in[i])
        low = middle + 1;
      else
        high = middle;
    }
    out[run / 2 * 2 * width + (i - run * width) + (low - begin)] = in[i];
  }
};

// Sorted keys, of which those of a token are cut into chunks.
struct SortedKeys {
  const uint64_t* keys;
  int64_t n;

  HOST_DEVICE int64_t token(int64_t i) const { return token_of(keys[i]); }
  HOST_DEVICE bool is_first(int64_t i) const { return i == 0 || token(i - 1) != token(i); }
  HOST_DEVICE bool has_chunk_behind(int64_t i) const { return i + kChunk < n && token(i + kChunk) == token(i); }
  HOST_DEVICE bool has_chunk_before(int64_t i) const { return i >= kChunk && token(i - kChunk) == token(i); }
  // The first key of `wanted` or a greater token. Looks in [low, high], where it has to be.
  HOST_DEVICE int64_t begin_of(int64_t wanted, int64_t low, int64_t high) const {
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (token(middle) < wanted)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }

  // Where the sum of the chunk that begins with key i is kept, if it is not its token's first: such chunks begin at
  // least kChunk keys apart, even where a short one lies between them, and those of one token exactly so.
  HOST_DEVICE static int64_t place_of_sum(int64_t i) { return i / kChunk - 1; }
  static int64_t most_sums(int64_t n) { return n / kChunk; }

  static constexpr int64_t kChunk = EmbedGrad::kChunk;
};

// The first key of each chunk adds up the rows of the chunk: into the table if the chunk is its token's first, else
// into a sum of its own.
template <class A>
struct SumOfChunk {
  float *d_table, *sums;
  const A* d_out;
  SortedKeys sorted;
  int64_t width;
  bool accumulate;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t i) const {
    const int64_t token = sorted.token(i);
    const bool first = sorted.is_first(i);
    if (!first && (!sorted.has_chunk_before(i) ||
                   (i - sorted.begin_of(token, 0, i - SortedKeys::kChunk)) % SortedKeys::kChunk != 0))
      return;
    const int64_t most = i + SortedKeys::kChunk < sorted.n ? i + SortedKeys::kChunk : sorted.n;
    const A* x = d_out;
    const uint64_t* own = sorted.keys + i;
    const int64_t columns = width;
    team.add_rows(width, sorted.begin_of(token + 1, i + 1, most) - i,
                  first ? d_table + token * width : sums + SortedKeys::place_of_sum(i) * width, first && accumulate,
                  [=](int64_t r, int64_t c) { return float(x[row_of(own[r]) * columns + c]); });
  }
};

// The first key of each token that has more than one chunk adds the sums of the others.
struct SumOfToken {
  float* d_table;
  const float* sums;
  SortedKeys sorted;
  int64_t width;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t i) const {
    if (!sorted.is_first(i) || !sorted.has_chunk_behind(i)) return;
    const int64_t token = sorted.token(i), second = i + SortedKeys::kChunk;
    const int64_t end = sorted.begin_of(token + 1, second + 1, sorted.n);
    const float* x = sums + SortedKeys::place_of_sum(second) * width;
    const int64_t columns = width;
    team.add_rows(width, (end - second + SortedKeys::kChunk - 1) / SortedKeys::kChunk, d_table + token * width, true,
                  [=](int64_t r, int64_t c) { return x[r * columns + c]; });
  }
};

struct Zero {
  HOST_DEVICE void operator()(float& y) const { y = 0; }
};

int64_t bytes_of_keys(const EmbedGrad& k) { return scratch_piece(k.tokens.size() * int64_t(sizeof(uint64_t))); }

}  // namespace

void run(Backend, Stream& stream, const Embed& k) {
  const int64_t width = k.table.shape[1], rows = k.tokens.size();
  check(k.out.size() == rows * width, ErrorCode::internal,
        [&] { return str("embed: expected ", rows, " rows of ", width, ", got ", to_string(k.out.shape)); });
  const bool placed = k.positions.shape.rank() == 2;
  dispatch_activation(k.out.dtype, [&]<class A>(TypeTag<A>) {
    dispatch_float(k.table.dtype, [&]<class T>(TypeTag<T>) {
      backend::rowwise(stream, rows, width,
                       LookUpRow<A, T>{data<A>(k.out), data<int32_t>(k.tokens), data<T>(k.table),
                                       placed ? data<T>(k.positions) : nullptr, width, k.length});
    });
  });
}

int64_t scratch_bytes(Backend, Stream&, const EmbedGrad& k) {
  const int64_t sums = SortedKeys::most_sums(k.tokens.size());
  return 2 * bytes_of_keys(k) + scratch_piece(sums * k.d_table.shape[1] * int64_t(sizeof(float)));
}

void run(Backend, Stream& stream, const EmbedGrad& k, std::byte* scratch) {
  const int64_t width = k.d_table.shape[1], rows = k.tokens.size();
  auto* keys = reinterpret_cast<uint64_t*>(scratch);
  auto* merged = reinterpret_cast<uint64_t*>(scratch + bytes_of_keys(k));
  backend::gather(stream, rows, KeyAt{keys, data<int32_t>(k.tokens)});
  for (int64_t run = 1; run < rows; run *= 2) {
    backend::gather(stream, rows, MergeAt{merged, keys, rows, run});
    std::swap(keys, merged);
  }
  if (!k.accumulate) backend::elementwise(stream, k.d_table.size(), Zero{}, out(data<float>(k.d_table)));
  auto* sums = reinterpret_cast<float*>(scratch + 2 * bytes_of_keys(k));
  const SortedKeys sorted{keys, rows};
  dispatch_activation(k.d_out.dtype, [&]<class A>(TypeTag<A>) {
    backend::rowwise(stream, rows, width,
                     SumOfChunk<A>{data<float>(k.d_table), sums, data<A>(k.d_out), sorted, width, k.accumulate});
  });
  if (rows > EmbedGrad::kChunk)
    backend::rowwise(stream, rows, width, SumOfToken{data<float>(k.d_table), sums, sorted, width});
}

}  // namespace lockstep
