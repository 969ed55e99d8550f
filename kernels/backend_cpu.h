// SPDX-License-Identifier: Apache-2.0
// The four memory walks on the CPU: elementwise, rowwise, reduce, gather. Every order of summation is a function of
// the shape alone, so results do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/device/device.h"
#include "kernels/operand.h"
#include "kernels/parallel.h"
#include "kernels/reduce_chunks.h"

namespace lockstep::cpu {

// Returns the operand for the elements of one granule.
template <class Operand>
Operand in_granule(const Operand& operand, int64_t) {
  return operand;
}
template <ByGranule Operand>
auto in_granule(const Operand& operand, int64_t granule) {
  return operand.in_granule(granule);
}

// Walks [begin, end). Copies with no address taken let the compiler keep pointers in registers and vectorise.
template <class F, class... Operand>
void elements(int64_t begin, int64_t end, const F f, const Operand... operand) {
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) apply_at(i, f, operand...);
}

// These are compiled once and not wherever they are called: most of what the compiler does are loops of formulas.
template <class F, class... Operand>
[[gnu::noinline]] void range_of_elements(int64_t begin, int64_t end, const F& f, const Operand&... operand) {
  elements(begin, end, f, operand...);
}

template <class F, class... Operand>
[[gnu::noinline]] void elements_of_granule(int64_t granule, int64_t n, const F& f, const Operand&... operand) {
  const int64_t begin = granule * kGranule, end = std::min(n, begin + kGranule);
  elements(begin, end, f, in_granule(operand, granule)...);
}

// Like elementwise(), but only for the elements of granules g with where(g).
template <class Where, class F, class... Operand>
void elementwise_where(Stream& stream, int64_t n, const Where& where, const F& formula, const Operand&... operand) {
  const int64_t granules = (n + kGranule - 1) / kGranule;
  const auto& f = loaded(formula);
  parallel_ranges(n < kParallelElements ? 1 : stream.threads(), granules, 2, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g)
      if (where(g)) elements_of_granule(g, n, f, operand...);
  });
}

// Calls f(x...) on the registers of element i of every operand, for i in [0, n).
template <class F, class... Operand>
void elementwise(Stream& stream, int64_t n, const F& formula, const Operand&... operand) {
  if constexpr ((ByGranule<Operand> || ...))
    return elementwise_where(
        stream, n, [](int64_t) { return true; }, formula, operand...);
  const auto& f = loaded(formula);
  if (n < kParallelElements || stream.threads() == 1) return range_of_elements(0, n, f, operand...);
  parallel_ranges(stream.threads(), n, 64,
                  [&](int64_t begin, int64_t end) { range_of_elements(begin, end, f, operand...); });
}

// What the lanes of a row may do together: a thread block on the GPU, a loop here. A sum keeps kLanes partial sums and
// folds them by halves, in the order of a block of kLanes threads.
struct Team {
  static constexpr int64_t kLanes = 256;

  template <class F>
  void each(int64_t n, const F& f) const {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) f(i);
  }

  template <class F>
  void once(const F& f) const {
    f();
  }

  // y[c] = x(0, c) + x(1, c) + ... for count >= 1 rows, in this order; what is in y comes before, if it is `kept`.
  template <class F>
  void add_rows(int64_t width, int64_t count, float* y, bool kept, const F& x) const {
    if (!kept) each(width, [=](int64_t c) { y[c] = x(0, c); });
    for (int64_t r = kept ? 0 : 1; r < count; ++r) each(width, [=](int64_t c) { y[c] += x(r, c); });
  }

  template <class Real = float, class F>
  Real sum(int64_t n, const F& f) const {
    // Lanes above n would only ever hold zero.
    const int64_t lanes = std::min<int64_t>(kLanes, ceil_power_of_two(n));
    Real lane[kLanes];
    for (int64_t j = 0; j < lanes; ++j) lane[j] = j < n ? f(j) : Real(0);
    for (int64_t base = lanes; base < n; base += lanes) {
      const int64_t width = std::min(lanes, n - base);
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) lane[j] += f(base + j);
    }
    for (int64_t half = lanes / 2; half > 0; half /= 2)
#pragma omp simd
      for (int64_t j = 0; j < half; ++j) lane[j] += lane[j + half];
    return n > 0 ? lane[0] : Real(0);
  }

  template <class F>
  float max(int64_t n, const F& f) const {
    // In lanes, because a maximum of one chain is a comparison after the other. A NaN is never the larger one.
    constexpr int64_t kPeaks = 32;
    float peaks[kPeaks];
    std::fill_n(peaks, kPeaks, -std::numeric_limits<float>::infinity());
    for (int64_t base = 0; base < n; base += kPeaks) {
      const int64_t width = std::min(kPeaks, n - base);
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) {
        const float x = float(f(base + j));
        peaks[j] = peaks[j] < x ? x : peaks[j];
      }
    }
    return *std::max_element(peaks, peaks + kPeaks);
  }

 private:
  static int64_t ceil_power_of_two(int64_t n) {
    int64_t power = 1;
    while (power < n) power *= 2;
    return power;
  }
};

// Calls f(team, row) for every row. `columns` only says how much work a row is.
template <class F>
void rowwise(Stream& stream, int64_t rows, int64_t columns, const F& f) {
  if (rows * columns < kParallelElements || stream.threads() == 1) {
    for (int64_t row = 0; row < rows; ++row) f(Team{}, row);
    return;
  }
  parallel_ranges(stream.threads(), rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) f(Team{}, row);
  });
}

// Calls store(c, sum over rows r of f(r, c)) for every c. Rows are cut into chunks (kernels/reduce_chunks.h); a chunk
// keeps kReduceLanes partial sums (row modulo lanes), folded by halves; chunks are added in order.
inline constexpr int64_t kReduceLanes = 16, kReduceTile = 64;

inline int64_t reduce_scratch(int64_t rows, int64_t columns) {
  return ReduceChunks{rows}.count() * columns * int64_t(sizeof(float));
}

template <class F, class Store>
void reduce(Stream& stream, int64_t rows, int64_t columns, const F& f, const Store& store, std::byte* scratch) {
  const ReduceChunks cut{rows};
  const auto chunk_tile = [&](int64_t chunk, int64_t first, int64_t width, float* total) {
    alignas(64) float lane[kReduceLanes][kReduceTile] = {};
    const int64_t end = std::min(rows, (chunk + 1) * cut.length());
    for (int64_t r = chunk * cut.length(); r < end; ++r) {
      float* sums = lane[r % kReduceLanes];
#pragma omp simd
      for (int64_t c = 0; c < width; ++c) sums[c] += f(r, first + c);
    }
    for (int64_t half = kReduceLanes / 2; half > 0; half /= 2)
      for (int64_t l = 0; l < half; ++l)
#pragma omp simd
        for (int64_t c = 0; c < width; ++c) lane[l][c] += lane[l + half][c];
    for (int64_t c = 0; c < width; ++c) total[c] = lane[0][c];
  };
  const int64_t chunks = cut.count();
  const int64_t tiles = (columns + kReduceTile - 1) / kReduceTile;
  auto* totals = reinterpret_cast<float*>(scratch);
  const int threads = rows * columns < kParallelElements ? 1 : stream.threads();
  parallel_parts(threads, chunks * tiles, [&](int64_t part) {
    const int64_t chunk = part / tiles, first = part % tiles * kReduceTile;
    chunk_tile(chunk, first, std::min(kReduceTile, columns - first), totals + chunk * columns + first);
  });
  for (int64_t c = 0; c < columns; ++c) {
    float total = totals[c];
    for (int64_t chunk = 1; chunk < chunks; ++chunk) total += totals[chunk * columns + c];
    store(c, total);
  }
}

// Calls f(i) for i in [0, n); it writes output i and may read anywhere.
template <class F>
void gather(Stream& stream, int64_t n, const F& f) {
  if (n < kParallelElements || stream.threads() == 1) {
    for (int64_t i = 0; i < n; ++i) f(i);
    return;
  }
  parallel_ranges(stream.threads(), n, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

}  // namespace lockstep::cpu
