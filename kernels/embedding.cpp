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

// The first key of each token adds up the rows of that token.
template <class A>
struct SumOfToken {
  float* d_table;
  const A* d_out;
  const uint64_t* keys;
  int64_t n, width;
  bool accumulate;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t i) const {
    const int64_t token = token_of(keys[i]);
    if (i > 0 && token_of(keys[i - 1]) == token) return;
    const A* x = d_out;
    const uint64_t* own = keys + i;
    const int64_t columns = width;
    team.add_rows(width, end_of(token, i) - i, d_table + token * width, accumulate,
                  [=](int64_t r, int64_t c) { return float(x[row_of(own[r]) * columns + c]); });
  }

  // Where the keys of a token that begin at `low` end.
  HOST_DEVICE int64_t end_of(int64_t token, int64_t low) const {
    int64_t high = n;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (token_of(keys[middle]) == token)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
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

int64_t scratch_bytes(Backend, Stream&, const EmbedGrad& k) { return 2 * bytes_of_keys(k); }

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
  dispatch_activation(k.d_out.dtype, [&]<class A>(TypeTag<A>) {
    backend::rowwise(stream, rows, width,
                     SumOfToken<A>{data<float>(k.d_table), data<A>(k.d_out), keys, rows, width, k.accumulate});
  });
}

}  // namespace lockstep
