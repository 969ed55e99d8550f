// SPDX-License-Identifier: Apache-2.0
#include "kernels/reduction.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

struct Element {
  const float* in;
  int64_t columns;
  HOST_DEVICE float operator()(int64_t r, int64_t c) const { return in[r * columns + c]; }
};

struct StoreColumn {
  float* out;
  HOST_DEVICE void operator()(int64_t c, float total) const { out[c] = total; }
};

struct SumAll {
  float* out;
  const float* in;
  int64_t n;
  float scale;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t) const {
    const float* x = in;
    const float total = team.sum(n, [=](int64_t i) { return x[i]; });
    float* y = out;
    const float s = scale;
    team.each(1, [=](int64_t) { y[0] = total * s; });
  }
};

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
  backend::reduce(stream, rows, columns, Element{data<float>(k.in), columns}, StoreColumn{data<float>(k.out)}, scratch);
}

void run(Backend, Stream& stream, const Sum& k) {
  backend::rowwise(stream, 1, k.in.size(), SumAll{data<float>(k.out), data<float>(k.in), k.in.size(), k.scale});
}

}  // namespace lockstep
