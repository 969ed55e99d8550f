// SPDX-License-Identifier: Apache-2.0
// The four memory walks on CUDA: elementwise, rowwise, reduce, gather. They sum in the orders of backend_cpu.h, so that
// a formula without contraction gives the same bits on both backends.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "kernels/cuda_shared.cuh"
#include "kernels/device/cuda_check.h"
#include "kernels/device/device.h"
#include "kernels/operand.h"
#include "kernels/reduce_chunks.h"

namespace lockstep::cuda {

inline constexpr int kThreads = 256;  // threads of a block
inline constexpr int kWarp = 32;

inline int64_t blocks_of(int64_t n, int64_t per_block) { return (n + per_block - 1) / per_block; }

// Starts kernel(argument...) on blocks.x * blocks.y blocks, in stream order.
template <class... Parameter, class... Argument>
void start(Stream& stream, dim3 blocks, dim3 threads, void (*kernel)(Parameter...), const Argument&... argument) {
  cuda_check(cudaSetDevice(stream.device().index));
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = threads;
  config.stream = static_cast<cudaStream_t>(stream.handle());
  cuda_check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameter>(argument)...));
}

inline unsigned grid_size(int64_t blocks) {
  check(blocks <= std::numeric_limits<int32_t>::max(), ErrorCode::device,
        [&] { return str("a launch of ", blocks, " blocks is more than CUDA can start; split the tensor"); });
  return unsigned(blocks);
}

// How the array of an operand is accessed. Operands without a specialisation are walked element by element.
template <class Operand>
struct ArrayOf {
  static constexpr bool known = false;
  static constexpr int element_bytes = 16;
};
template <class T, bool kLoads, bool kStores>
struct KnownArray {
  using Element = T;
  static constexpr bool known = true, loads = kLoads, stores = kStores;
  static constexpr int element_bytes = int(sizeof(T));
};
template <class T>
struct ArrayOf<In<T>> : KnownArray<T, true, false> {};
template <class T>
struct ArrayOf<Out<T>> : KnownArray<T, false, true> {};
template <class T>
struct ArrayOf<InOut<T>> : KnownArray<T, true, true> {};

// Such an operand is looked up once per pack, because granules are longer.
template <ByGranule Operand>
struct ArrayOf<Operand> {
  static constexpr bool known = true;
  static constexpr int element_bytes = 16;
};

template <class Operand>
bool starts_aligned(const Operand& operand) {
  if constexpr (ByGranule<Operand>) {
    return true;
  } else {
    return reinterpret_cast<uintptr_t>(operand.data) % 16 == 0;
  }
}

template <class... Operand>
inline constexpr bool kPackable = (ArrayOf<Operand>::known && ...);

// Elements that a thread takes at once: enough that the narrowest operand moves 16 bytes.
template <class... Operand>
inline constexpr int kPack = kPackable<Operand...> ? 16 / std::min({ArrayOf<Operand>::element_bytes...}) : 1;

// kWidth elements of one operand in registers, moved by 128-bit accesses.
template <int kWidth, class Operand>
struct Registers {
  using T = typename ArrayOf<Operand>::Element;
  static constexpr int kMoves = kWidth * int(sizeof(T)) / int(sizeof(uint4));
  alignas(16) T at[kWidth];

  __device__ Registers(const Operand& operand, int64_t i) {
    if constexpr (ArrayOf<Operand>::loads) {
      uint4 moved[kMoves];
      for (int k = 0; k < kMoves; ++k) moved[k] = reinterpret_cast<const uint4*>(operand.data + i)[k];
      memcpy(at, moved, sizeof(at));
    }
  }
  __device__ Operand operand() { return Operand{at}; }
  __device__ void put_back(const Operand& operand, int64_t i) const {
    if constexpr (ArrayOf<Operand>::stores) {
      uint4 moved[kMoves];
      memcpy(moved, at, sizeof(at));
      for (int k = 0; k < kMoves; ++k) reinterpret_cast<uint4*>(operand.data + i)[k] = moved[k];
    }
  }
};

template <int kWidth, ByGranule Operand>
struct Registers<kWidth, Operand> {
  // Gives the elements of the pack by their number in it.
  struct OfPack {
    decltype(std::declval<Operand>().in_granule(0)) of_granule;
    int64_t begin;
    __device__ auto load(int j) const { return of_granule.load(begin + j); }
    template <class Value>
    __device__ void store(int, Value) const {}
  } pack;
  __device__ Registers(const Operand& operand, int64_t i) : pack{operand.in_granule(i / kGranule), i} {}
  __device__ OfPack operand() const { return pack; }
  __device__ void put_back(const Operand&, int64_t) const {}
};

template <class F, class... Operand>
__device__ void apply_packed(int64_t i, const F& f, const Operand&... operand) {
  constexpr int kWidth = kPack<Operand...>;
  const auto& once = loaded(f);
  [&](auto... registers) {
#pragma unroll
    for (int j = 0; j < kWidth; ++j) apply_at(j, once, registers.operand()...);
    (registers.put_back(operand, i), ...);
  }(Registers<kWidth, Operand>(operand, i)...);
}

template <class F, class... Operand>
__global__ void __launch_bounds__(kThreads) elementwise_kernel(int64_t n, bool aligned, F f, Operand... operand) {
  constexpr int kWidth = kPack<Operand...>;
  const int64_t begin = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
  if constexpr (kWidth > 1) {
    if (aligned && begin + kWidth <= n) return apply_packed(begin, f, operand...);
  }
  const auto& once = loaded(f);
  for (int64_t i = begin; i < begin + kWidth && i < n; ++i) apply_at(i, once, operand...);
}

// Calls f(x...) on the registers of element i of every operand, for i in [0, n).
template <class F, class... Operand>
void elementwise(Stream& stream, int64_t n, const F& f, const Operand&... operand) {
  if (n == 0) return;
  bool aligned = false;
  if constexpr (kPackable<Operand...>) aligned = (starts_aligned(operand) && ...);
  const unsigned blocks = grid_size(blocks_of(n, int64_t(kThreads) * kPack<Operand...>));
  start(stream, blocks, kThreads, elementwise_kernel<F, Operand...>, n, aligned, f, operand...);
}

// A vector never crosses granules, because arrays begin with one.
template <class Where, class F, class... Operand>
__global__ void __launch_bounds__(kThreads)
    elementwise_where_kernel(int64_t n, bool aligned, Where where, F f, Operand... operand) {
  constexpr int kWidth = kPack<Operand...>;
  static_assert(kGranule % kWidth == 0);
  const int64_t begin = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
  if (begin >= n || !where(begin / kGranule)) return;
  if constexpr (kWidth > 1) {
    if (aligned && begin + kWidth <= n) return apply_packed(begin, f, operand...);
  }
  const auto& once = loaded(f);
  for (int64_t i = begin; i < begin + kWidth && i < n; ++i) apply_at(i, once, operand...);
}

// Like elementwise(), but only for the elements of granules g with where(g).
template <class Where, class F, class... Operand>
void elementwise_where(Stream& stream, int64_t n, const Where& where, const F& f, const Operand&... operand) {
  if (n == 0) return;
  bool aligned = false;
  if constexpr (kPackable<Operand...>) aligned = (starts_aligned(operand) && ...);
  const unsigned blocks = grid_size(blocks_of(n, int64_t(kThreads) * kPack<Operand...>));
  start(stream, blocks, kThreads, elementwise_where_kernel<Where, F, Operand...>, n, aligned, where, f, operand...);
}

// What the threads of one warp, or of one block, may do together for a row. A sum keeps kLanes partial sums and folds
// them by halves. kTeamThreads only says how the lanes are spread over threads.
template <int kTeamThreads>
struct Team {
  static constexpr int kLanes = 256;

  template <class F>
  __device__ void each(int64_t n, const F& f) const {
    for (int64_t i = thread(); i < n; i += kTeamThreads) f(i);
    barrier();  // what one thread wrote, the others may read next
  }

  // One of the threads calls f; the others may read next what it wrote.
  template <class F>
  __device__ void once(const F& f) const {
    if (thread() == 0) f();
    barrier();
  }

  // y[c] = x(0, c) + x(1, c) + ... for count >= 1 rows, in this order; what is in y comes before, if it is `kept`. A
  // thread keeps its sum in a register, so that rows can be on their way while others are added.
  template <class F>
  __device__ void add_rows(int64_t width, int64_t count, float* y, bool kept, const F& x) const {
    each(width, [=](int64_t c) {
      float sum = kept ? y[c] + x(0, c) : x(0, c);
#pragma unroll 4
      for (int64_t r = 1; r < count; ++r) sum += x(r, c);
      y[c] = sum;
    });
  }

  template <class Real = float, class F>
  __device__ Real sum(int64_t n, const F& f) const {
    Real own[kOwn];
    for (int k = 0; k < kOwn; ++k) {
      const int64_t j = thread() + k * kTeamThreads;
      own[k] = j < n ? Real(f(j)) : Real(0);
      for (int64_t i = j + kLanes; i < n; i += kLanes) own[k] += f(i);
    }
    // The CPU keeps no more lanes than the next power of two, and x + 0 is not x for x = -0.
    const int64_t lanes = n < kLanes ? n : kLanes;
    return fold(own, [=](int half, Real a, Real b) { return half < lanes ? a + b : a; });
  }

  template <class F>
  __device__ float max(int64_t n, const F& f) const {
    float own[kOwn];
    for (int k = 0; k < kOwn; ++k) {
      own[k] = -INFINITY;
      for (int64_t i = thread() + k * kTeamThreads; i < n; i += kLanes) own[k] = larger(own[k], float(f(i)));
    }
    return fold(own, [](int, float a, float b) { return larger(a, b); });
  }

 private:
  static constexpr int kOwn = kLanes / kTeamThreads;     // lanes of one thread
  static constexpr int kPerWarpThread = kLanes / kWarp;  // lanes of one thread when a warp holds all

  __device__ static int thread() { return int(threadIdx.x) % kTeamThreads; }
  __device__ static void barrier() {
    if constexpr (kTeamThreads == kWarp) {
      __syncwarp();
    } else {
      __syncthreads();
    }
  }
  __device__ static float larger(float a, float b) { return a < b ? b : a; }

  // lane[j] = op(half, lane[j], lane[j + half]) for half = kLanes / 2 down to 1. Every thread gets lane[0].
  struct FoldLanes;

  template <class Real, class Op>
  __device__ static Real fold(const Real (&own)[kOwn], const Op& op) {
    if constexpr (kTeamThreads == kWarp) {
      return fold_in_warp(own, op);
    } else {
      auto& lanes = block_shared<Real[kLanes], FoldLanes>();
      __syncthreads();  // nobody reads the lanes of the previous fold any more
      for (int k = 0; k < kOwn; ++k) lanes[thread() + k * kTeamThreads] = own[k];
      __syncthreads();
      // Each warp folds all lanes by itself: no second exchange is needed to tell the others.
      Real mine[kPerWarpThread];
      for (int k = 0; k < kPerWarpThread; ++k) mine[k] = lanes[threadIdx.x % kWarp + k * kWarp];
      return fold_in_warp(mine, op);
    }
  }

  template <class Real, class Op>
  __device__ static Real fold_in_warp(const Real (&lanes)[kPerWarpThread], const Op& op) {
    Real lane[kPerWarpThread];
    for (int k = 0; k < kPerWarpThread; ++k) lane[k] = lanes[k];
#pragma unroll
    for (int half = kPerWarpThread / 2; half > 0; half /= 2)
#pragma unroll
      for (int k = 0; k < half; ++k) lane[k] = op(half * kWarp, lane[k], lane[k + half]);
#pragma unroll
    for (int half = kWarp / 2; half > 0; half /= 2) lane[0] = op(half, lane[0], __shfl_down_sync(~0u, lane[0], half));
    return __shfl_sync(~0u, lane[0], 0);
  }
};

// Three blocks are asked for at once: otherwise ptxas gives the threads of some rows too few registers, and spills.
template <int kTeamThreads, class F>
__global__ void __launch_bounds__(kThreads, 3) rowwise_kernel(int64_t rows, F f) {
  const int64_t row = int64_t(blockIdx.x) * (kThreads / kTeamThreads) + threadIdx.x / kTeamThreads;
  if (row < rows) f(Team<kTeamThreads>{}, row);
}

// Calls f(team, row) for every row. `columns` only says how much work a row is.
template <class F>
void rowwise(Stream& stream, int64_t rows, int64_t columns, const F& f) {
  if (rows == 0) return;
  constexpr int64_t kColumnsOfAWarp = 1024;  // up to here, a warp per row keeps more rows in flight
  if (columns <= kColumnsOfAWarp) {
    const unsigned blocks = grid_size(blocks_of(rows, kThreads / kWarp));
    start(stream, blocks, kThreads, rowwise_kernel<kWarp, F>, rows, f);
  } else {
    start(stream, grid_size(rows), kThreads, rowwise_kernel<kThreads, F>, rows, f);
  }
}

inline constexpr int kReduceLanes = 16, kReduceTile = 32;

// One block totals one chunk of rows for a tile of columns. Row r goes to lane r modulo kReduceLanes.
template <class F, class Store>
__global__ void __launch_bounds__(kReduceLanes* kReduceTile)
    reduce_kernel(int64_t rows, int64_t length, int64_t columns, F f, Store store, float* totals) {
  auto& lane = block_shared<float[kReduceLanes][kReduceTile], struct ReduceLanes>();
  const int64_t tiles = (columns + kReduceTile - 1) / kReduceTile;
  const int64_t chunk = blockIdx.x / tiles;
  const int64_t c = blockIdx.x % tiles * kReduceTile + threadIdx.x;
  const int64_t begin = chunk * length, end = rows < begin + length ? rows : begin + length;
  float sum = 0;
  if (c < columns)
    for (int64_t r = begin + threadIdx.y; r < end; r += kReduceLanes) sum += f(r, c);
  lane[threadIdx.y][threadIdx.x] = sum;
  for (unsigned half = kReduceLanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) lane[threadIdx.y][threadIdx.x] += lane[threadIdx.y + half][threadIdx.x];
  }
  if (threadIdx.y > 0 || c >= columns) return;
  if (totals) {
    totals[chunk * columns + c] = lane[0][threadIdx.x];
  } else {
    store(c, lane[0][threadIdx.x]);
  }
}

template <class Store>
__global__ void __launch_bounds__(kThreads)
    add_chunks_kernel(int64_t chunks, int64_t columns, const float* totals, Store store) {
  const int64_t c = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= columns) return;
  float total = totals[c];
  for (int64_t chunk = 1; chunk < chunks; ++chunk) total += totals[chunk * columns + c];
  store(c, total);
}

// Calls store(c, sum over rows r of f(r, c)) for every c. Rows are cut into chunks (kernels/reduce_chunks.h); a chunk
// keeps kReduceLanes partial sums (row modulo lanes), folded by halves; chunks are added in order.
inline int64_t reduce_scratch(int64_t rows, int64_t columns) {
  const int64_t chunks = ReduceChunks{rows}.count();
  return chunks > 1 ? chunks * columns * int64_t(sizeof(float)) : 0;
}

template <class F, class Store>
void reduce(Stream& stream, int64_t rows, int64_t columns, const F& f, const Store& store, std::byte* scratch) {
  if (columns == 0) return;
  const ReduceChunks cut{rows};
  const int64_t chunks = cut.count();
  float* totals = chunks > 1 ? reinterpret_cast<float*>(scratch) : nullptr;
  const unsigned blocks = grid_size(chunks * blocks_of(columns, kReduceTile));
  start(stream, blocks, dim3(kReduceTile, kReduceLanes), reduce_kernel<F, Store>, rows, cut.length(), columns, f, store,
        totals);
  if (chunks > 1)
    start(stream, grid_size(blocks_of(columns, kThreads)), kThreads, add_chunks_kernel<Store>, chunks, columns, totals,
          store);
}

template <class F>
__global__ void __launch_bounds__(kThreads) gather_kernel(int64_t n, F f) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) f(i);
}

// Calls f(i) for i in [0, n); it writes output i and may read anywhere.
template <class F>
void gather(Stream& stream, int64_t n, const F& f) {
  if (n == 0) return;
  start(stream, grid_size(blocks_of(n, kThreads)), kThreads, gather_kernel<F>, n, f);
}

}  // namespace lockstep::cuda
