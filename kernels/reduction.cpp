// SPDX-License-Identifier: Apache-2.0
#include "kernels/reduction.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

template <class T>
struct Element {
  const T* in;
  int64_t columns;
  HOST_DEVICE float operator()(int64_t r, int64_t c) const { return float(in[r * columns + c]); }
};

struct StoreColumn {
  float* out;
  HOST_DEVICE void operator()(int64_t c, float total) const { out[c] = total; }
};

struct SumChunk {
  float* out;
  const float* in;
  int64_t n, chunk;
  float scale;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    const float* x = in + row * chunk;
    const int64_t left = n - row * chunk;
    const float total = team.sum(left < chunk ? left : chunk, [=](int64_t i) { return x[i]; });
    float* y = out + row;
    const float s = scale;
    team.each(1, [=](int64_t) { y[0] = total * s; });
  }
};

int64_t chunks_of(int64_t n) { return (n + kSumChunk - 1) / kSumChunk; }

void check_columns(std::string_view kernel, const ConstView& vector, const ConstView& matrix) {
  check(matrix.shape.rank() == 2 && vector.size() == matrix.shape[1], ErrorCode::internal, [&] {
    return str(kernel, ": expected a vector with one element per column of ", to_string(matrix.shape), ", got ",
               to_string(vector.shape));
  });
}

}  // namespace

int64_t scratch_bytes(Backend, Stream&, const ColumnSum& k) {
  return backend::reduce_scratch(k.in.shape[0], k.in.shape[1]);
}

void run(Backend, Stream& stream, const ColumnSum& k, std::byte* scratch) {
  check_columns("column sum", k.out, k.in);
  const int64_t rows = k.in.shape[0], columns = k.in.shape[1];
  dispatch_activation(k.in.dtype, [&]<class T>(TypeTag<T>) {
    backend::reduce(stream, rows, columns, Element<T>{data<T>(k.in), columns}, StoreColumn{data<float>(k.out)},
                    scratch);
  });
}

int64_t scratch_bytes(Backend, Stream&, const Sum& k) {
  int64_t bytes = 0;
  for (int64_t n = k.in.size(); n > kSumChunk;) bytes += scratch_piece((n = chunks_of(n)) * size_of(DType::f32));
  return bytes;
}

void run(Backend, Stream& stream, const Sum& k, std::byte* scratch) {
  const float* in = data<float>(k.in);
  int64_t n = k.in.size();
  while (n > kSumChunk) {
    auto* sums = reinterpret_cast<float*>(scratch);
    const int64_t chunks = chunks_of(n);
    backend::rowwise(stream, chunks, kSumChunk, SumChunk{sums, in, n, kSumChunk, 1});
    in = sums, n = chunks;
    scratch += scratch_piece(chunks * size_of(DType::f32));
  }
  backend::rowwise(stream, 1, n, SumChunk{data<float>(k.out), in, n, n, k.scale});
}

}  // namespace lockstep
