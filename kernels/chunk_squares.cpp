// SPDX-License-Identifier: Apache-2.0
#include "kernels/chunk_squares.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

struct ChunkRow {
  double* sums;
  const float* values;
  const int64_t *begins, *ends;

  template <class Team>
  HOST_DEVICE void operator()(const Team& team, int64_t chunk) const {
    const float* x = values + begins[chunk];
    const double sum =
        team.template sum<double>(ends[chunk] - begins[chunk], [=](int64_t i) { return double(x[i]) * double(x[i]); });
    team.once([=, out = sums + chunk] { *out = sum; });
  }
};

struct SumRow {
  double* sums;
  const double* chunks;
  const int64_t* first_chunk;

  template <class Team>
  HOST_DEVICE void operator()(const Team& team, int64_t variable) const {
    const double* x = chunks + first_chunk[variable];
    const double sum =
        team.template sum<double>(first_chunk[variable + 1] - first_chunk[variable], [=](int64_t c) { return x[c]; });
    team.once([=, out = sums + variable] { *out = sum; });
  }
};

}  // namespace

void run(Backend, Stream& stream, const ChunkSquares& k) {
  check(k.begins.size() == k.sums.size() && k.ends.size() == k.sums.size(), ErrorCode::internal, [&] {
    return str("sums of squares: expected borders of ", k.sums.size(), " chunks, got ", k.begins.size(), " and ",
               k.ends.size());
  });
  backend::rowwise(
      stream, k.sums.size(), kSquareChunk,
      ChunkRow{data<double>(k.sums), data<float>(k.values), data<int64_t>(k.begins), data<int64_t>(k.ends)});
}

void run(Backend, Stream& stream, const SumsOfChunks& k) {
  check(k.first_chunk.size() == k.sums.size() + 1, ErrorCode::internal, [&] {
    return str("sums of chunks: expected ", k.sums.size() + 1, " first chunks, got ", k.first_chunk.size());
  });
  // A whole block for each variable: a large one has a thousand chunks.
  constexpr int64_t kWide = 1 << 20;
  backend::rowwise(stream, k.sums.size(), kWide,
                   SumRow{data<double>(k.sums), data<double>(k.chunks), data<int64_t>(k.first_chunk)});
}

}  // namespace lockstep
